package e2e

import (
	"context"
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

var (
	daemons     = flag.Int("daemons", 50, "how many daemons are measured together")
	daemonFlags = flag.String("daemons.flags", "", "of weft launch, with blanks between them")
)

// launchedAtOnce bounds the launches at one time: with more this machine, and not
// the mesh, would decide how long it takes.
const launchedAtOnce = 8

// counting counts on the underlay what is gossip, and everything.
const counting = `table bridge count {
	counter everything { packets 0 bytes 0; }
	counter gossip { packets 0 bytes 0; }
	chain forward {
		type filter hook forward priority 0
		counter name everything
		udp dport 6783 counter name gossip
		tcp dport 6783 counter name gossip
		tcp sport 6783 counter name gossip
	}
}`

// BenchmarkDaemons measures many daemons of one mesh: until all know all, and
// what each takes while nothing happens.
func BenchmarkDaemons(b *testing.B) {
	lab := netlab.New(b)
	if r := lab.Underlay().Feed(counting, "nft", "-f", "-"); r.Code != 0 {
		b.Fatal(r.Stderr)
	}
	var hosts []*netlab.Host
	for i := range *daemons {
		hosts = append(hosts, lab.Host(fmt.Sprintf("h%d", i)))
	}
	lab.Acquaint()
	join := strings.Fields(hosts[0].Run(append([]string{"weft", "launch"}, strings.Fields(*daemonFlags)...)...))
	began := time.Now()
	var wg sync.WaitGroup
	turn := make(chan struct{}, launchedAtOnce)
	for _, h := range hosts[1:] {
		turn <- struct{}{}
		wg.Go(func() {
			if r := h.Try(join...); r.Code != 0 {
				b.Errorf("%s: %s", h.Name, r.Stderr)
			}
			<-turn
		})
	}
	wg.Wait()
	launched := time.Since(began)
	for _, h := range hosts {
		for lacks := lacking(h); lacks != ""; lacks = lacking(h) {
			if time.Since(began) > 10*time.Minute {
				b.Fatalf("%s: %s", h.Name, lacks)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	b.Logf("%d daemons launched, %d at a time: %.1f s; all knew all %.1f s after that", *daemons, launchedAtOnce, launched.Seconds(), (time.Since(began) - launched).Seconds())

	time.Sleep(30 * time.Second) // what the launches set off has ended
	const long = time.Minute
	before, bytes := usedBy(b, hosts), underlayBytes(b, lab)
	time.Sleep(long)
	after, sent := usedBy(b, hosts), underlayBytes(b, lab)
	b.Log("idle, of each, the least, the median and the most:")
	for _, process := range []string{daemon, wireguard} {
		var cpu, rss, pss []float64
		for i := range hosts {
			if u, ok := after[i][process]; ok {
				cpu = append(cpu, (u.cpu-before[i][process].cpu).Seconds()/long.Seconds()*100)
				rss, pss = append(rss, u.rss), append(pss, u.pss)
			}
		}
		if len(cpu) > 0 {
			b.Logf("%-12s %% of a core %s; RSS, MB %s; PSS, MB %s", process, spread(cpu), spread(rss), spread(pss))
		}
	}
	for what, n := range sent {
		b.Logf("bytes a second of %s, sent by each: %.0f", what, float64(n-bytes[what])/long.Seconds()/float64(len(hosts)))
	}
}

// lacking is what keeps a host from knowing all others and having a link to each;
// "" if nothing does.
func lacking(h *netlab.Host) string {
	s, err := api.NewClient(h.Path(api.DefaultSocket)).Status(context.Background())
	if err != nil {
		return err.Error()
	}
	for _, l := range s.Links {
		if l.Reason != "" {
			return l.Name + ": " + l.Reason
		}
	}
	if n := len(s.Links); n != *daemons-1 {
		return fmt.Sprintf("%d links", n)
	}
	return ""
}

// used is what a process has used: processor time, and memory in MB.
type used struct {
	cpu      time.Duration
	rss, pss float64
}

// clockTick is the unit of processor times in /proc: USER_HZ is 100 on every
// architecture that weft runs on.
const clockTick = 10 * time.Millisecond

// The processes of a host; that of WireGuard is there where the kernel has none.
const daemon, wireguard = "daemon", "WireGuard"

// usedBy is what weft's processes on each host have used.
func usedBy(b *testing.B, hosts []*netlab.Host) []map[string]used {
	b.Helper()
	out := make([]map[string]used, len(hosts))
	for i, h := range hosts {
		out[i] = map[string]used{}
		pids := map[string]string{daemon: h.Run("cat", "/var/lib/weft/lock")}
		if r := h.Try("pgrep", "-f", "^weft wg --device"); r.Code == 0 {
			pids[wireguard] = strings.TrimSpace(r.Stdout)
		}
		for name, pid := range pids {
			stat := strings.Fields(h.Run("cat", "/proc/"+pid+"/stat"))
			var u used
			for _, f := range stat[13:15] {
				n, err := strconv.Atoi(f)
				if err != nil {
					b.Fatalf("%s: times of process %s: %v", h.Name, pid, err)
				}
				u.cpu += time.Duration(n) * clockTick
			}
			for line := range strings.Lines(h.Run("cat", "/proc/"+pid+"/smaps_rollup")) {
				f := strings.Fields(line)
				if n, err := strconv.ParseFloat(f[1], 64); err == nil {
					switch f[0] {
					case "Rss:":
						u.rss = n / 1024
					case "Pss:":
						u.pss = n / 1024
					}
				}
			}
			out[i][name] = u
		}
	}
	return out
}

func spread(v []float64) string {
	slices.Sort(v)
	return fmt.Sprintf("%.2f, %.2f, %.2f", v[0], v[len(v)/2], v[len(v)-1])
}

var counterLine = regexp.MustCompile(`counter (\w+) \{\s*packets \d+ bytes (\d+)`)

// underlayBytes are the bytes that the underlay has carried, by counter.
func underlayBytes(b *testing.B, lab *netlab.Lab) map[string]int {
	b.Helper()
	out := map[string]int{}
	for _, m := range counterLine.FindAllStringSubmatch(lab.Underlay().Run("nft", "list", "counters"), -1) {
		n, err := strconv.Atoi(m[2])
		if err != nil {
			b.Fatal(err)
		}
		out[m[1]] = n
	}
	if len(out) != 2 {
		b.Fatalf("counters of the underlay: %v", out)
	}
	return out
}
