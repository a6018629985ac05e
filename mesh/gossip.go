package mesh

import (
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
)

// kind of a gossiped message.
type kind uint8

const (
	kindRecords kind = 1 // signed records
	kindDelta   kind = 2 // a change of a channel, for everybody
	kindDirect  kind = 3 // a message of a channel, for one peer
	kindState   kind = 4 // everything: records and channels
)

// message is what travels inside of memberlist's encrypted packets and streams.
type message struct {
	_        struct{} `cbor:",toarray"`
	Protocol int
	Kind     kind
	Records  []signed
	Channels []channelData
	// Of a direct message: who wrote it, for whom, the proof, and where to
	// answer.
	Key, Signature []byte
	To             uuid.UUID
	From           netip.AddrPort
}

type channelData struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Data []byte
}

// maxPacket is what surely fits a gossip packet with all of memberlist's
// headers; what is larger goes over TCP.
const maxPacket = 1200

func recordsMessage(list []signed) []byte {
	return encode(message{Protocol: ProtocolVersion, Kind: kindRecords, Records: list})
}

func channelMessage(k kind, channel string, data []byte) message {
	return message{Protocol: ProtocolVersion, Kind: k, Channels: []channelData{{Name: channel, Data: data}}}
}

// delegate is the side of a Mesh that memberlist calls: it takes notes and
// returns at once.
type delegate Mesh

// NodeMeta is the version of this peer's record.
func (d *delegate) NodeMeta(int) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return binary.BigEndian.AppendUint64(nil, d.records[d.cfg.Identity.ID].Version)
}

// NotifyMsg takes a message in.
func (d *delegate) NotifyMsg(b []byte) { d.take(append([]byte{}, b...)) }

// GetBroadcasts hands out what is to be spread.
func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

// LocalState is everything, for an exchange.
func (d *delegate) LocalState(bool) []byte {
	out := message{Protocol: ProtocolVersion, Kind: kindState}
	d.mu.Lock()
	for _, r := range d.records {
		out.Records = append(out.Records, r.signed)
	}
	d.mu.Unlock()
	for _, c := range d.cfg.Channels {
		out.Channels = append(out.Channels, channelData{Name: c.Name(), Data: c.State()})
	}
	return encode(out)
}

// MergeRemoteState takes another peer's LocalState in.
func (d *delegate) MergeRemoteState(b []byte, _ bool) { d.take(append([]byte{}, b...)) }

// delivery is a message to be handled, or the news that all before it were.
type delivery struct {
	msg  []byte
	done chan struct{}
}

func (d *delegate) take(b []byte) {
	select {
	case d.inbox <- delivery{msg: b}:
	default:
		d.dropped.Add(1) // the periodic exchange repairs it
	}
}

// NotifyJoin notes that a member is up.
func (d *delegate) NotifyJoin(n *memberlist.Node) { d.note(n, true) }

// NotifyUpdate is of no interest: the record itself is gossiped.
func (d *delegate) NotifyUpdate(*memberlist.Node) {}

// NotifyLeave notes that a member has failed or left.
func (d *delegate) NotifyLeave(n *memberlist.Node) { d.note(n, false) }

func (d *delegate) note(n *memberlist.Node, up bool) {
	id, err := uuid.Parse(n.Name)
	if err != nil || id == d.cfg.Identity.ID {
		return
	}
	d.mu.Lock()
	if up {
		d.alive[id] = time.Now()
		delete(d.lostAt, id)
	} else {
		delete(d.alive, id)
		d.lostAt[id] = time.Now()
	}
	name := d.records[id].Body.Name
	d.mu.Unlock()
	switch {
	case up:
		d.log.Info("peer is up", "peer", id, "name", name, "addr", n.Address())
	case n.State == memberlist.StateLeft:
		d.log.Info("peer has left", "peer", id, "name", name, "addr", n.Address())
	default:
		d.log.Warn("peer does not answer", "peer", id, "name", name, "addr", n.Address())
	}
	(*Mesh)(d).poke()
}

// handle takes one message after the other.
func (m *Mesh) handle() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case d := <-m.inbox:
			if d.done != nil {
				close(d.done)
				continue
			}
			if err := m.receive(d.msg); err != nil {
				m.log.Debug("message refused", "err", err)
			}
		}
	}
}

// settle returns when everything that has arrived is handled.
func (m *Mesh) settle(ctx context.Context) {
	done := make(chan struct{})
	select {
	case m.inbox <- delivery{done: done}:
	case <-ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
}

func (m *Mesh) receive(b []byte) error {
	var msg message
	if err := decoder.Unmarshal(b, &msg); err != nil {
		return fmt.Errorf("read message: %w", err)
	}
	if msg.Protocol != ProtocolVersion {
		return fmt.Errorf("message of protocol version %d, this peer speaks %d", msg.Protocol, ProtocolVersion)
	}
	if msg.Kind == kindDirect {
		return m.receiveDirect(msg)
	}
	news := m.mergeRecords(msg.Records)
	for _, s := range news {
		m.spread(recordsMessage([]signed{s.signed}), s.ID.String())
	}
	for _, c := range msg.Channels {
		ch, ok := m.channels[c.Name]
		if !ok {
			continue // a newer peer's channel
		}
		if n := ch.Merge(c.Data); n != nil {
			m.spread(encode(channelMessage(kindDelta, c.Name, n)), "")
		}
	}
	return nil
}

// mergeRecords takes records in and returns those that were news.
func (m *Mesh) mergeRecords(list []signed) []Record {
	var news []Record
	for _, s := range list {
		r, err := verify(m.cfg.Token.MeshID, s)
		if err != nil {
			m.log.Debug("record refused", "err", err)
			continue
		}
		m.mu.Lock()
		if r.ID == m.cfg.Identity.ID {
			if own := m.records[r.ID]; r.newer(own) {
				// An earlier life of this peer said more than its store
				// remembers: speak louder than that.
				if again, err := m.cfg.Identity.sign(m.cfg.Token.MeshID, r.Version+1, own.Body); err == nil {
					m.records[r.ID] = again
					news = append(news, again)
				}
			}
		} else if m.records.merge(r) {
			news = append(news, r)
		}
		m.mu.Unlock()
	}
	if len(news) > 0 {
		m.poke()
	}
	return news
}

// directBytes is what the writer of a direct message signs.
func directBytes(meshID uuid.UUID, msg message) []byte {
	b := append([]byte("weft direct\x00"), meshID[:]...)
	b = append(b, msg.To[:]...)
	return append(append(b, encode(msg.From)...), encode(msg.Channels)...)
}

func (m *Mesh) receiveDirect(msg message) error {
	if len(msg.Channels) != 1 || len(msg.Key) != ed25519.PublicKeySize {
		return fmt.Errorf("direct message: %w", errMalformed)
	}
	c := msg.Channels[0]
	if !ed25519.Verify(msg.Key, directBytes(m.cfg.Token.MeshID, msg), msg.Signature) {
		return fmt.Errorf("direct message: %w", errSignature)
	}
	ch, ok := m.channels[c.Name]
	if !ok || msg.To != m.cfg.Identity.ID {
		return fmt.Errorf("direct message for channel %q of peer %s", c.Name, msg.To)
	}
	from := IDOf(msg.Key)
	m.mu.Lock()
	if len(m.heardFrom) >= heardFromKept {
		clear(m.heardFrom) // it only bridges the moments until gossip brings the same
	}
	m.heardFrom[from] = msg.From
	m.mu.Unlock()
	ch.Receive(from, c.Data)
	return nil
}

// heardFromKept bounds the memory of peers to be answered.
const heardFromKept = 1024

// broadcast is an entry of memberlist's queue; one of the same name replaces it.
type broadcast struct {
	name string
	msg  []byte
}

func (b *broadcast) Invalidates(o memberlist.Broadcast) bool {
	other, ok := o.(*broadcast)
	return ok && b.name != "" && other.name == b.name
}
func (b *broadcast) Message() []byte { return b.msg }
func (b *broadcast) Finished()       {}

// headStart is to how many peers this one's own news goes straight away, so
// that a small mesh need not wait for the next rounds of gossip.
const headStart = 8

// announce tells everybody of this peer's own news.
func (m *Mesh) announce(msg []byte, name string) {
	if len(msg) <= maxPacket {
		others := m.others()
		rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
		for _, n := range others[:min(headStart, len(others))] {
			m.post(n, msg)
		}
	}
	m.spread(msg, name)
}

// spread passes news on: by gossip, or, where it does not fit a packet, over
// TCP to each live peer.
func (m *Mesh) spread(msg []byte, name string) {
	if len(msg) <= maxPacket {
		m.queue.QueueBroadcast(&broadcast{name, msg})
		return
	}
	for _, n := range m.others() {
		m.post(n, msg)
	}
}

// others are the live members but this one.
func (m *Mesh) others() []*memberlist.Node {
	var out []*memberlist.Node
	for _, n := range m.list.Members() {
		if n.Name != m.cfg.Identity.ID.String() {
			out = append(out, n)
		}
	}
	return out
}

// post sends reliably, without waiting.
func (m *Mesh) post(n *memberlist.Node, msg []byte) {
	select {
	case m.sending <- struct{}{}:
	case <-m.ctx.Done():
		return
	default:
		m.dropped.Add(1)
		return
	}
	m.wg.Go(func() {
		defer func() { <-m.sending }()
		if err := m.list.SendReliable(n, msg); err != nil {
			m.log.Debug("message not sent", "to", n.Name, "err", err)
		}
	})
}

// Broadcast tells every peer's channel of a change that this peer made.
func (m *Mesh) Broadcast(channel string, delta []byte) {
	m.announce(encode(channelMessage(kindDelta, channel, delta)), "")
}

// Send gives a message to one peer's channel, signed by this peer. It
// does not wait, and tells nobody if it is lost.
func (m *Mesh) Send(to uuid.UUID, channel string, data []byte) {
	msg := channelMessage(kindDirect, channel, data)
	msg.To, msg.From, msg.Key = to, m.cfg.Advertise, m.cfg.Identity.Key.Public().(ed25519.PublicKey)
	msg.Signature = ed25519.Sign(m.cfg.Identity.Key, directBytes(m.cfg.Token.MeshID, msg))
	if n := m.node(to); n != nil {
		m.post(n, encode(msg))
	}
}

// node is where a peer is reached: as a member, else as it said itself; nil
// if neither is known.
func (m *Mesh) node(id uuid.UUID) *memberlist.Node {
	for _, n := range m.others() {
		if n.Name == id.String() {
			return n
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.heardFrom[id]; ok && at.IsValid() {
		return &memberlist.Node{Name: id.String(), Addr: at.Addr().AsSlice(), Port: at.Port()}
	}
	return nil
}
