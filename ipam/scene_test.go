package ipam

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// scene is a world in which nothing happens but what a test says. After every
// event everything is checked that a schedule of chaos checks.
type scene struct {
	*world
	t    *testing.T
	late []flight // held back
	hold func(flight) bool
}

// newScene is of so many hosts. The first founds the mesh and the next join it,
// one after the other, until so many are in.
func newScene(t *testing.T, hosts, members int) *scene {
	t.Helper()
	s := &scene{world: newWorld(faults{hosts: hosts, seals: true}, 1), t: t}
	s.story = &strings.Builder{}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s%s", s.story, s.state())
		}
	})
	for _, h := range s.hosts {
		h.start()
	}
	s.nonce++
	e, err := s.hosts[0].core.Found(s.nonce)
	s.must(err)
	s.hosts[0].do(e, nil)
	for _, h := range s.hosts[1:members] {
		s.join(h, s.hosts[0])
	}
	s.settle(20)
	return s
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// join lets a host in by another.
func (s *scene) join(h, by *host) {
	s.t.Helper()
	s.settle(2)
	s.exchange(h, by)
	s.settle(2)
	s.nonce++
	e, err := h.core.Join(by.peer, 0, s.nonce, s.nonce)
	s.must(err)
	h.do(e, nil)
	s.settle(6)
	if !h.core.Lodged() {
		s.t.Fatalf("host %s was not let in by host %s", h, by)
	}
}

// settle lets time pass: everybody ticks, exchanges with the next, and hears all
// that can be heard.
func (s *scene) settle(rounds int) {
	s.t.Helper()
	for round := range rounds {
		for i, h := range s.hosts {
			if h.core == nil || h.left {
				continue
			}
			h.do(h.core.Tick(s.live(h)), nil)
			h.enforce()
			if round%3 == 0 {
				s.exchange(h, s.hosts[(i+1)%len(s.hosts)])
			}
			s.deliverAll()
		}
	}
	s.fine()
}

// rejoin lets those in again who were shut out.
func (s *scene) rejoin() {
	s.t.Helper()
	for range 30 {
		for _, h := range s.hosts {
			if h.core != nil && !h.left {
				h.join()
			}
		}
		s.settle(5)
	}
}

// deliverAll gives every message to whom it is for, but for those held back.
func (s *scene) deliverAll() {
	s.t.Helper()
	for n := 0; len(s.flying) > 0 && n < 5000; n++ {
		f := s.flying[0]
		s.flying = slices.Delete(s.flying, 0, 1)
		if s.hold != nil && s.hold(f) {
			s.late = append(s.late, f)
			continue
		}
		s.deliver(f)
		s.fine()
	}
}

// arrive delivers what was held back, and holds nothing back any more.
func (s *scene) arrive() {
	s.t.Helper()
	s.hold, s.flying, s.late = nil, append(s.flying, s.late...), nil
	s.deliverAll()
}

func (s *scene) fine() {
	s.t.Helper()
	if s.check(); s.fail != "" {
		s.t.Fatal(s.fail)
	}
}

// quiet fails unless all is well in the end.
func (s *scene) quiet() {
	s.t.Helper()
	for range 30 {
		if s.settle(10); s.isQuiet() == "" {
			return
		}
	}
	s.t.Fatalf("it does not become quiet: %s\n%s", s.isQuiet(), s.state())
}

// part cuts hosts off from all others.
func (s *scene) part(side ...*host) {
	clear(s.cut)
	for _, a := range s.hosts {
		for _, b := range s.hosts {
			s.cut[[2]int{a.n, b.n}] = slices.Contains(side, a) != slices.Contains(side, b)
		}
	}
}

func (s *scene) mend() { clear(s.cut) }

// run starts a container with a certain address, or any.
func (s *scene) run(h *host, name, addr string) netip.Addr {
	s.t.Helper()
	var a netip.Addr
	var e Effects
	var err error
	if addr == "" {
		a, e, err = h.core.Allocate(name)
	} else {
		a = netip.MustParseAddr(addr)
		e, err = h.core.Claim(name, a)
	}
	s.must(err)
	h.containers[name] = a
	h.do(e, nil)
	return a
}

func (s *scene) stop(h *host, name string) {
	a := h.containers[name]
	delete(h.containers, name)
	h.do(h.core.Release(name, a), nil)
}

// seal asks that a host's present life be shut out.
func (s *scene) seal(by *host, id ID) {
	s.t.Helper()
	e, err := by.core.Seal(id)
	s.must(err)
	by.do(e, nil)
}

// goes takes a host away for good.
func (s *scene) goes(h *host) { h.off() }

func (s *scene) force(by *host, survivors ...*host) {
	s.t.Helper()
	var ids []ID
	for _, h := range survivors {
		id, _ := by.core.MemberOf(h.peer)
		ids = append(ids, id)
	}
	s.nonce++
	e, err := by.core.Force(ids, s.nonce)
	s.must(err)
	by.do(e, nil)
}

// inherited tells whether a host knows that what a member had was given away.
func (s *scene) inherited(h *host, id ID) bool {
	at, sealed := h.core.view.Sealed[id]
	return sealed && h.core.view.Reclaimed >= at
}
