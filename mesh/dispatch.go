package mesh

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
)

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
			m.waiting.Add(-int64(len(d.msg)))
			if err := m.receive(d.msg); err != nil {
				m.counts.refuseMessage(reason(err))
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
	case <-m.ctx.Done():
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
}

// fewNews is up to how many records that have come together are passed on, if
// their peers are up. More come to who joins a large mesh, or when many restart:
// most others know them, and who does not sees by the digests that he is late.
const fewNews = 32

func (m *Mesh) receive(b []byte) error {
	msg, err := decodeMessage(b)
	if err != nil {
		return err
	}
	switch msg.Kind {
	case kindDirect:
		return m.receiveDirect(msg)
	case kindWant:
		return m.receiveWant(msg)
	case kindRecords, kindDelta, kindState:
	default:
		return nil // of the next version
	}
	reach := toNobody
	if msg.Kind == kindState {
		reach = toMany
	}
	news := m.mergeRecords(msg.Records)
	for _, r := range news {
		switch {
		case r.ID == m.cfg.Identity.ID:
			m.spread(m.cfg.Verified.message(r), r.ID.String(), toAll)
		case len(news) > fewNews && m.isUp(r.ID):
		default:
			m.spread(m.cfg.Verified.message(r), r.ID.String(), reach)
		}
	}
	for _, c := range msg.Channels {
		if c.Name == recordsChannel {
			if err := m.compareRecords(c.Data); err != nil {
				return err
			}
			continue
		}
		ch, ok := m.channels[c.Name]
		if !ok {
			continue // a newer peer's channel
		}
		if n := ch.Merge(c.Data); n != nil {
			m.spread(encode(channelMessage(kindDelta, c.Name, n)), "", reach)
		}
	}
	return nil
}

// mergeRecords takes records in and returns those that were news.
func (m *Mesh) mergeRecords(list []signed) []*Record {
	var news []*Record
	for _, s := range list {
		if r, ok := m.mergeRecord(s); ok {
			news = append(news, r)
		}
	}
	if len(news) > 0 {
		m.poke()
	}
	return news
}

func (m *Mesh) mergeRecord(s signed) (*Record, bool) {
	m.mu.Lock()
	known, outdated := m.records.stale(s)
	m.mu.Unlock()
	if outdated {
		m.counts.refuse(Outdated)
	}
	if known || outdated {
		return nil, false
	}
	r, err := m.cfg.Verified.verify(m.cfg.Token, s)
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.records.isFull(r.ID) {
			err = fmt.Errorf("record refused: %w", errTooMany)
		}
	}
	if err != nil {
		m.counts.refuse(reason(err))
		m.log.Debug("record refused", "err", err)
		return nil, false
	}
	if r.ID != m.cfg.Identity.ID {
		now := time.Now()
		if _, known := m.records[r.ID]; m.records.isBuried(r, now) || !known && !r.Body.Departed && m.isGone(r.ID) {
			return nil, false
		}
		news := m.records.merge(r)
		if news {
			m.noteOffer(r)
		}
		if news && r.isOld(now) {
			m.farewells[r.ID] = now
		}
		if news && r.Body.Departed {
			m.log.Info("peer has departed for good", "peer", r.ID, "name", r.Body.Name)
		}
		return r, news
	}
	news, copied, err := m.records.hear(m.cfg.Identity, m.cfg.Token.MeshID, m.cfg.Life, r)
	if copied {
		m.tellCopied(fmt.Sprintf("it says so in its record, which is reached at %v", r.Body.Gossip))
	}
	if err != nil {
		m.log.Warn("cannot answer an earlier life of this peer", "err", err)
	}
	m.changes.Add(1) // an earlier life's record may be taken for this one's, which is no news
	own := m.records.of(r.ID)
	if news && own.Body.Departed {
		m.log.Error("this peer has left the mesh for good in an earlier life: run `weft reset` and join anew", "peer", r.ID)
	}
	if news {
		m.remeta()
	}
	return own, news
}

func (m *Mesh) receiveDirect(msg message) error {
	from, err := verifyDirect(m.cfg.Token.MeshID, m.cfg.Identity.ID, msg)
	if err != nil {
		return err
	}
	c := msg.Channels[0]
	ch, ok := m.channels[c.Name]
	own := map[string]func(uuid.UUID, []byte) error{tokenChannel: m.receiveToken, recordsChannel: m.receiveSync}[c.Name]
	if !ok && own == nil {
		return fmt.Errorf("direct message for unknown channel %q", clip(c.Name))
	}
	m.mu.Lock()
	if len(m.heardFrom) >= heardFromKept {
		clear(m.heardFrom) // it only bridges the moments until gossip brings the same
	}
	m.heardFrom[from] = msg.From
	m.mu.Unlock()
	if own != nil {
		return own(from, c.Data)
	}
	ch.Receive(from, c.Data)
	return nil
}

// heardFromKept bounds the memory of peers to be answered.
const heardFromKept = 1024

// receiveWant answers a peer that has missed this one's record.
func (m *Mesh) receiveWant(msg message) error {
	if msg.To == uuid.Nil {
		return fmt.Errorf("wish of nobody: %w", errMalformed)
	}
	n := m.node(msg.To)
	if n == nil {
		return fmt.Errorf("wish of peer %s, which is no member", msg.To)
	}
	m.mu.Lock()
	own := m.records.of(m.cfg.Identity.ID)
	m.mu.Unlock()
	if own.Version > 0 {
		m.post(n, recordsMessage([]signed{own.signed}))
	}
	return nil
}
