package mesh

import (
	"net"
	"slices"
	"sync"
	"time"
)

// Refusal is a host that this one did not let in.
type Refusal struct {
	Addr   string // host only: the port is new each time
	Name   string // as it called itself
	Code   string
	Reason string
	Last   time.Time
	Count  int
	logged time.Time
}

const (
	refusalsKept = 64          // bounds the memory of refusals
	refusalQuiet = time.Minute // between two lines about the same
)

// refusals remembers the latest ones, for status and so that a host which
// keeps knocking is logged once a minute and not each time.
type refusals struct {
	mu   sync.Mutex
	list []Refusal // the latest last
}

// add counts a refusal, and tells whether it is worth a line in the log.
func (r *refusals) add(addr, name string, v verdict, now time.Time) (news bool) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	o := Refusal{Addr: host, Code: v.Code}
	if i := slices.IndexFunc(r.list, func(o Refusal) bool { return o.Addr == host && o.Code == v.Code }); i >= 0 {
		o = r.list[i]
		r.list = slices.Delete(r.list, i, i+1)
	} else if len(r.list) == refusalsKept {
		r.list = slices.Delete(r.list, 0, 1)
	}
	o.Name, o.Reason, o.Last, o.Count = clip(name), v.Reason, now, o.Count+1
	if news = o.logged.IsZero() || now.Sub(o.logged) >= refusalQuiet; news {
		o.logged = now
	}
	r.list = append(r.list, o)
	return news
}

func (r *refusals) all() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
