package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// whereRun is where a daemon of this store ran last. It is the same after a crash,
// a stop or an upgrade; a copy of the store is never in the same place.
type whereRun struct {
	Boot   string `cbor:"1,keyasint"` // the kernel's id of the run of the machine
	Cookie uint64 `cbor:"2,keyasint"` // of the host's network namespace in it
}

// word is what the mesh says of a peer that is about to start.
type word int

const (
	silence   word = iota // nobody has answered
	welcome               // somebody has, who knows of no other life of it
	elsewhere             // it runs on another host
)

// evidence is what there is to tell a copied store from a host that has changed.
type evidence struct {
	sameRun     bool // as the last daemon of this store
	sameMachine bool // by its machine-id
	sameAddress bool // one that the peer was reached by
	containers  bool // that were attached
	said        word
}

// isCopy tells whether this host has to become another peer. Who runs elsewhere
// is a copy, whatever else is true. Where the machine is another one, so is the
// peer, unless it would lose by it: an image with a store in it has no containers,
// and boots elsewhere. Without an answer nothing is changed; if the peer
// does run elsewhere, that comes out when somebody answers.
func (e evidence) isCopy() bool {
	switch {
	case e.sameRun:
		return false
	case e.said == elsewhere:
		return true
	}
	return !e.sameMachine && e.said == welcome && !e.sameAddress && !e.containers
}

// askMeshTime bounds the question to the mesh, which is put only where the host was
// started anew or the store is in another place.
const askMeshTime = 3 * time.Second

// checkCopy finds out whether this store is a copy of another host's; if so the
// state is made that of a new peer. A host that is to stay the same, though its
// machine-id is another one, is told of.
func (d *Daemon) checkCopy(ctx context.Context, p *peerState, step func(name, detail string)) error {
	found := d.copied
	if found == "" {
		var err error
		if found, err = d.lookForCopy(ctx, p, step); err != nil || found == "" {
			return err
		}
	}
	old := p.identity.ID
	if err := d.becomeAnother(p); err != nil {
		return err
	}
	d.log.Warn("this host has a copy of another host's store, and becomes another peer", "was", old, "is", p.identity.ID, "because", found)
	step("become another peer", fmt.Sprintf("%s, no longer %s: %s", p.identity.ID, old, found))
	return nil
}

// lookForCopy returns why the store is another host's; "" if it is this one's.
func (d *Daemon) lookForCopy(ctx context.Context, p *peerState, step func(name, detail string)) (string, error) {
	machine, err := d.keep.Get(bucketPeer, keyMachine)
	if err != nil {
		return "", err
	}
	run, err := d.keep.Get(bucketPeer, keyRun)
	if err != nil {
		return "", err
	}
	attached, err := d.keep.attachments()
	if err != nil {
		return "", err
	}
	others, own, err := mesh.Whereabouts(p.snapshot, p.token, p.identity.ID)
	if err != nil {
		return "", err
	}
	now := machineID()
	e := evidence{
		sameRun: slices.Equal(run, encode(d.whereRun())), sameMachine: string(machine) == now, containers: len(attached) > 0,
		sameAddress: slices.ContainsFunc(own, func(a netip.AddrPort) bool { return slices.Contains(d.underlays(), a.Addr()) }),
	}
	text := ""
	if !e.sameRun {
		e.said, text = d.askMesh(ctx, p, slices.Concat(others, own))
	}
	switch {
	case e.sameRun && e.sameMachine:
		return "", nil
	case !e.isCopy() && !e.sameMachine:
		step("keep the identity", fmt.Sprintf("the machine-id was %s and is %s, and this peer runs nowhere else", machine, now))
		d.log.Warn("the machine-id has changed; this host stays the peer that it was", "was", string(machine), "is", now, "id", p.identity.ID)
		fallthrough
	case !e.isCopy():
		return "", d.keep.Commit([]store.Write{
			{Bucket: bucketPeer, Key: []byte(keyMachine), Value: []byte(now)},
			{Bucket: bucketPeer, Key: []byte(keyRun), Value: encode(d.whereRun())},
		})
	case text == "":
		text = fmt.Sprintf("the store was made on the machine %s, this one is %s, and nothing was attached", machine, now)
	}
	return text, nil
}

func (d *Daemon) whereRun() whereRun { return whereRun{Boot: d.boot, Cookie: d.hostCookie} }

// askMesh asks whoever is known whether this peer runs elsewhere, all at once; one
// who knows that it does is believed, and else a few that know of nothing.
func (d *Daemon) askMesh(ctx context.Context, p *peerState, known []netip.AddrPort) (said word, text string) {
	ctx, cancel := context.WithTimeout(ctx, askMeshTime)
	defer cancel()
	self := d.helloSelf(p)
	self.Settings, self.Life = encode(p.settings), d.life
	// An address that is kept and on no interface here may be a router's, or that of the
	// host of which this one is a copy.
	self.Advertise = netip.AddrPortFrom(d.advertise(), d.opts.Port)
	finder := mesh.Finder{Token: p.token, Port: d.opts.Port, Own: d.underlays()}
	addrs := map[string]bool{}
	for _, a := range known {
		addrs[a.String()] = !slices.Contains(d.underlays(), a.Addr())
	}
	for _, target := range p.targets {
		found, err := finder.Lookup(ctx, target)
		if err != nil {
			continue // the others are asked, and later it is tried again
		}
		for _, a := range found {
			if _, ok := addrs[a]; !ok {
				addrs[a] = true
			}
		}
	}
	const most, enough = 16, 3
	answers := make(chan error, most)
	asked, welcomes := 0, 0
	for a, ask := range addrs {
		if ask && asked < most {
			asked++
			go func() { // ends with ctx at the latest, and the channel has room
				_, err := mesh.Hello(ctx, a, p.token, self)
				answers <- err
			}()
		}
	}
	for range asked {
		err := <-answers
		var refused *mesh.RefusedError
		switch {
		case err == nil:
			said = welcome
			if welcomes++; welcomes == enough {
				return said, ""
			}
		case errors.As(err, &refused) && refused.Code == mesh.CodeCopy:
			return elsewhere, refused.Reason
		}
	}
	return said, ""
}

// becomeAnother makes a peer's state that of a new one, which has its token, its
// settings and what it knows of the others. Its containers' addresses are the
// other's; they are asked for, as after a removal.
func (d *Daemon) becomeAnother(p *peerState) error {
	saved, err := planStore{d.keep.Store}.Load()
	if err != nil {
		return err
	}
	plan, err := ipam.Disown(p.planConfig(), saved)
	if err != nil {
		return err
	}
	fresh := *p
	if fresh.identity, err = mesh.NewIdentity(); err != nil {
		return err
	}
	if fresh.slots, err = firstSlots(d.now()); err != nil {
		return err
	}
	id, err := fresh.identity.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	writes := append(planWrites(plan), slotWrites(fresh.slots)...)
	for key, value := range map[string][]byte{keyIdentity: id, keyMachine: []byte(machineID()), keyRun: encode(d.whereRun())} {
		writes = append(writes, store.Write{Bucket: bucketPeer, Key: []byte(key), Value: value})
	}
	if err := d.keep.Commit(writes); err != nil {
		return fmt.Errorf("become another peer: %w", err)
	}
	d.became = p.identity.ID
	*p = fresh
	return nil
}

// becameShown is how long a change of identity is a warning.
const becameShown = time.Hour

func checkBecame(d *Daemon) string {
	if d.became == uuid.Nil || d.now().Sub(d.started) > becameShown {
		return ""
	}
	return fmt.Sprintf("this host had a copy of the store of peer %s, which runs elsewhere, and is peer %s now; addresses that its containers had are asked of the others", d.nameOf(d.became), d.identity.ID)
}
