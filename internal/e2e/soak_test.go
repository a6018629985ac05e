package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
	"github.com/weft-net/weft/internal/soak"
)

var (
	soakTime  = flag.Duration("soak.time", time.Minute, "how long the trouble lasts")
	soakHosts = flag.Int("soak.hosts", 6, "how many hosts")
	soakSeed  = flag.Uint64("soak.seed", 1, "what decides all that happens")
	soakFlags = flag.String("soak.flags", "", "of weft launch, with blanks between them")
	soakOut   = flag.String("soak.out", "", "directory for the report, and for what both ends said of each violation")
)

const (
	pingEvery = 150 * time.Millisecond
	// A pair that did not work in time is watched for so long after the change.
	watched = 30 * time.Second
	// calm is what passes at most between the moment when all works and the next change.
	calm = 5 * time.Second
	// stays is how soon a ping has to come back when all has worked before.
	stays = 2 * time.Second
)

// soaked is a mesh in trouble.
type soaked struct {
	b      *testing.B
	lab    *netlab.Lab
	hosts  []*netlab.Host
	echoes []*netlab.Echo
	addrs  []netip.Addr // of the containers, one on each host
	net    *soak.Underlay
	report *soak.Report
	step   int
	change soak.Change
}

// BenchmarkSoak has random trouble befall the underlay of a mesh with a container
// on each host, and looks whether every two that are connected by any path reach
// each other in time. A signal ends it early, with its report.
func BenchmarkSoak(b *testing.B) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	s := newSoaked(ctx, b)
	began := time.Now()
	defer func() { // also when something fails for good
		s.report.Lasted = time.Since(began)
		if b.Log("\n" + s.report.Text()); *soakOut != "" {
			s.write("report.md", []byte(s.report.Text()))
		}
	}()
	s.report.Broken = "the lab failed" // unless it gets to the end
	r := rand.New(rand.NewPCG(*soakSeed, 0))
	for ctx.Err() == nil && time.Since(began) < *soakTime {
		s.befall(ctx, r)
	}
	if s.report.Broken = ""; ctx.Err() != nil {
		s.report.Broken = "a signal came"
	}
	if len(s.report.Violations) > 0 || s.report.Broken != "" {
		b.Fail()
	}
}

func newSoaked(ctx context.Context, b *testing.B) *soaked {
	s := &soaked{b: b, lab: netlab.New(b), net: soak.NewUnderlay(*soakHosts)}
	flags := strings.Fields(*soakFlags)
	s.report = soak.NewReport(*soakSeed, *soakHosts, strings.Join(append([]string{""}, flags...), " "))
	var join []string
	for i := range *soakHosts {
		h := s.lab.Host(fmt.Sprintf("h%d", i))
		if i == 0 {
			join = strings.Fields(h.Run(append([]string{"weft", "launch"}, flags...)...))
		} else {
			h.Run(join...)
		}
		c := h.Container("c")
		addr := netip.MustParseAddr(h.Run("weft", "attach", "c"))
		s.hosts, s.addrs, s.echoes = append(s.hosts, h), append(s.addrs, addr), append(s.echoes, c.Echo())
		if ctx.Err() != nil {
			b.Fatal("a signal came before the mesh was whole")
		}
	}
	all := s.pairs()
	netlab.Eventually(b, "every two containers ping before there is any trouble", func() bool {
		works := map[pair]time.Duration{}
		s.await(ctx, time.Now(), all, stays, works)
		return len(works) == len(all)
	})
	return s
}

// pair is two hosts.
type pair struct{ a, b int }

// pairs are those that the network connects.
func (s *soaked) pairs() (out []pair) {
	connected := s.net.Connected()
	for a := range connected {
		for b := range a {
			if connected[a][b] {
				out = append(out, pair{a, b})
			}
		}
	}
	return out
}

// await pings all of these pairs that do not work yet, until they do or the time
// since then is over, and notes how long each took.
func (s *soaked) await(ctx context.Context, since time.Time, all []pair, within time.Duration, works map[pair]time.Duration) {
	for ctx.Err() == nil && len(works) < len(all) && time.Since(since) < within {
		for _, p := range all {
			if _, done := works[p]; done {
				continue
			}
			if at := s.echoes[p.a].Answered(s.addrs[p.b]); at.After(since) {
				works[p] = at.Sub(since)
			} else {
				s.echoes[p.a].Send(s.addrs[p.b])
			}
		}
		time.Sleep(pingEvery)
	}
}

// befall has one thing happen and looks what comes of it.
func (s *soaked) befall(ctx context.Context, r *rand.Rand) {
	s.step++
	s.change = s.net.Befall(r)
	pause := time.Duration(r.Int64N(int64(calm)))
	s.report.Steps[s.change.Kind]++
	s.lab.Deafen(s.net.Drops)
	s.restart(s.change.Restart)
	since, all, works := time.Now(), s.pairs(), map[pair]time.Duration{}
	s.await(ctx, since, all, soak.Within, works)
	said := make(chan []found, 1)
	go func(works map[pair]time.Duration) { said <- s.missing(all, works) }(maps.Clone(works)) // that takes a while, too
	s.await(ctx, since, all, watched, works)
	late := <-said
	if ctx.Err() != nil {
		return // it was not given its time
	}
	slowest := time.Duration(0)
	for _, took := range works {
		s.report.Took, slowest = append(s.report.Took, took), max(slowest, took)
	}
	s.report.Last = append(s.report.Last, slowest)
	for _, v := range late {
		if v.Took = works[pair{v.a, v.b}]; v.Took > 0 && v.Took <= soak.Within {
			continue // its answer came while the last look was taken
		}
		s.report.Violations = append(s.report.Violations, v.Violation)
	}
	select {
	case <-ctx.Done():
		return
	case <-time.After(pause):
	}
	settled := slices.Collect(maps.Keys(works))
	again := map[pair]time.Duration{}
	s.await(ctx, time.Now(), settled, stays, again)
	if ctx.Err() != nil {
		return
	}
	for _, v := range s.missing(settled, again) {
		v.Later = true
		s.report.Violations = append(s.report.Violations, v.Violation)
	}
}

// restart kills the daemons of some hosts and starts them again.
func (s *soaked) restart(hosts []int) {
	for _, i := range hosts {
		h := s.hosts[i]
		pid := h.Run("cat", "/var/lib/weft/lock")
		h.Run("kill", "-9", pid)
		netlab.Eventually(s.b, "the daemon is gone", func() bool { return h.Try("kill", "-0", pid).Code != 0 })
	}
	for _, i := range hosts {
		s.hosts[i].Run("weft", "launch")
	}
}

// found is a violation with the numbers of its hosts.
type found struct {
	soak.Violation
	a, b int
}

// missing are the pairs that do not work, and what their ends say of it now.
func (s *soaked) missing(all []pair, works map[pair]time.Duration) (out []found) {
	said := map[int]api.Status{}
	look := func(i int) api.Status {
		if _, done := said[i]; !done {
			said[i] = s.status(i)
		}
		return said[i]
	}
	for _, p := range all {
		if _, ok := works[p]; ok {
			continue
		}
		v := soak.Violation{Step: s.step, Change: s.change, A: s.hosts[p.a].Name, B: s.hosts[p.b].Name}
		v.Ends = [2]string{ofPeer(look(p.a), v.B), ofPeer(look(p.b), v.A)}
		s.b.Logf("seed %d, not in time: %s", *soakSeed, v)
		out = append(out, found{v, p.a, p.b})
	}
	return out
}

// status is what a host says of itself; nothing if it does not answer.
func (s *soaked) status(i int) api.Status {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	st, err := api.NewClient(s.hosts[i].Path(api.DefaultSocket)).Status(ctx)
	if err != nil {
		s.b.Logf("%s: status: %v", s.hosts[i].Name, err)
		return st
	}
	if text, err := json.MarshalIndent(st, "", " "); err == nil && *soakOut != "" {
		s.write(fmt.Sprintf("step%d-%s.json", s.step, s.hosts[i].Name), text)
	}
	return st
}

// ofPeer is what a host says of a peer and of its link to it, in one line.
func ofPeer(st api.Status, name string) string {
	out := st.Self.Name + ":"
	for _, p := range st.Peers {
		if p.Name == name {
			out += " peer is " + p.State
		}
	}
	for _, l := range st.Links {
		if l.Name == name {
			l.Transports = nil // the JSON beside the report has them
			text, err := json.Marshal(l)
			if err != nil {
				return err.Error()
			}
			out += ", link " + string(text)
		}
	}
	return out
}

func (s *soaked) write(name string, text []byte) {
	if err := os.WriteFile(filepath.Join(*soakOut, name), text, 0o644); err != nil {
		s.b.Error(err)
	}
}
