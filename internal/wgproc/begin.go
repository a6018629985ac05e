package wgproc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// Of two successors the one with the lesser key begins first, so that they rarely begin
// at the same moment, which holds one of them up. What is lost is repeated, again not
// at the same moment; the library alone would do so after 5 s, and both ends at once.
// The last one is waited for longest, for answers that take long.
var (
	turnOfLesser  = []time.Duration{0, time.Second, 2 * time.Second, 4 * time.Second}
	turnOfGreater = []time.Duration{300 * time.Millisecond, 1500 * time.Millisecond, 3 * time.Second, 6 * time.Second}
)

// beginTime is how long is waited for the sessions.
const beginTime = 8 * time.Second

// atOnce is the least number of sessions that are begun in each step, and steps
// the most of these: a burst of answers has WireGuard believe that it is under
// attack.
const (
	atOnce = 32
	steps  = 100
)

// turn is peers with which sessions are begun at the same times.
type turn struct {
	peers []peerState
	due   []time.Duration // from the first one on
}

// beginning is of the sessions that a successor makes while the carrier still
// sends by its own.
type beginning struct {
	p     *process
	old   *carrierProcess
	begun map[string]time.Time // when by this process, by key; a session of before is none
}

// beginSessions begins one with every peer, and returns when there is one with
// each that had one with the carrier, or after a time.
func (p *process) beginSessions(ctx context.Context, old *carrierProcess, self string, peers []peerState) (ready, alive int, err error) {
	lesser, greater := turn{due: turnOfLesser}, turn{due: turnOfGreater}
	for _, peer := range peers {
		switch {
		case !peer.alive(time.Now()):
		case self < peer.key:
			lesser.peers = append(lesser.peers, peer)
		default:
			greater.peers = append(greater.peers, peer)
		}
	}
	alive = len(lesser.peers) + len(greater.peers)
	b := beginning{p: p, old: old, begun: map[string]time.Time{}}
	for start := time.Now(); ; {
		elapsed := time.Since(start)
		for _, t := range []*turn{&lesser, &greater} {
			if len(t.due) == 0 || elapsed < t.due[0] {
				continue
			}
			t.due = t.due[1:]
			if err := b.begin(ctx, t.peers); err != nil {
				return ready, alive, err
			}
		}
		without, err := b.without(append(lesser.peers, greater.peers...))
		if err != nil {
			return ready, alive, err
		}
		ready = alive - len(without)
		if ready == alive || elapsed > beginTime || old.isGone() {
			break
		}
		if err := old.pause(ctx, step); err != nil {
			return ready, alive, err
		}
	}
	// The rest, and if the carrier is gone, those whose turn has not come: to set a
	// keepalive where there was none begins a session.
	return ready, alive, p.dev.IpcSet(keepalives(peers))
}

// begin begins sessions with those of the peers that have none, some at a time.
func (b *beginning) begin(ctx context.Context, peers []peerState) error {
	peers, err := b.without(peers)
	if err != nil {
		return err
	}
	each := max(atOnce, len(peers)/steps)
	for len(peers) > 0 {
		n := min(each, len(peers))
		for _, peer := range peers[:n] {
			err = errors.Join(err, b.initiate(peer.key))
		}
		err = errors.Join(err, b.p.dev.IpcSet(keepalives(peers[:n])))
		if err != nil {
			return fmt.Errorf("begin sessions: %w", err)
		}
		if peers = peers[n:]; len(peers) > 0 {
			if err := b.old.pause(ctx, step); err != nil {
				return err
			}
		}
	}
	return nil
}

// initiate sends a handshake message, whether or not one was sent before.
func (b *beginning) initiate(key string) error {
	var k device.NoisePublicKey
	if err := k.FromHex(key); err != nil {
		return err
	}
	peer := b.p.dev.LookupPeer(k)
	if peer == nil {
		return errBroken
	}
	if _, again := b.begun[key]; again {
		peer.ExpireCurrentKeypairs() // or it would wait for 5 s from the last
	}
	b.begun[key] = time.Now()
	_ = peer.SendHandshakeInitiation(false) // what cannot be sent now may be later
	return nil
}

// without are those of the peers that have no session which was made since one was
// begun with them.
func (b *beginning) without(peers []peerState) (out []peerState, err error) {
	text, err := b.p.dev.IpcGet()
	if err != nil {
		return nil, fmt.Errorf("look for sessions: %w", err)
	}
	made := map[string]time.Time{}
	_, _, now := readConfig(text)
	for _, peer := range now {
		made[peer.key] = peer.handshake
	}
	for _, peer := range peers {
		if at := made[peer.key]; at.Unix() == 0 || at.Before(b.begun[peer.key]) {
			out = append(out, peer)
		}
	}
	return out, nil
}
