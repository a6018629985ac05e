package bench

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/netlab"
)

var (
	rounds  = flag.Int("rounds", 5, "how often everything is measured")
	seconds = flag.Float64("seconds", 2, "how long each quantity is measured, each time")
	only    = flag.String("ways", "", "regular expression of the ways to measure, beside the routed one; all if empty")
	wire    = flag.String("wire", "", "rate of each host's link to the others, in the words of tc (1gbit); what the machine can do if empty")
)

// setups make the ways, in the order of the table.
var setups = []struct {
	names string // of what it makes, for -ways
	make  func(testing.TB, *netlab.Lab) []way
}{
	{"veth", veth}, {"routed", plain}, {"masquerade", masqueraded}, {"direct", direct}, {"vxlan bridge", vxlan}, {"plain-vxlan", vxlanByHand}, {"wireguard", wovenWireGuard},
	{"host-to-host", wireguardHere}, {"wireguard-go", wireguardGo}, {"nebula", nebula}, {"tinc", tinc},
}

// roles are what this program is when it is started with their names.
var roles = map[string]func(args []string) error{
	"serve":     func([]string) error { return serve() },
	"wireguard": func(args []string) error { return wireguard(args[0]) },
	"flood": func(args []string) error {
		perSecond, each, err := flood(netip.MustParseAddr(args[0]), length(args[1]))
		fmt.Println(perSecond, each)
		return err
	},
	"ping-pong": func(args []string) error {
		p50, p99, err := pingPong(netip.MustParseAddr(args[0]), length(args[1]))
		fmt.Println(p50, p99)
		return err
	},
}

func length(seconds string) time.Duration {
	s, _ := strconv.ParseFloat(seconds, 64)
	return time.Duration(s * float64(time.Second))
}

const roleFlag = "as"

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == roleFlag {
		if err := roles[os.Args[2]](os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// self is the command that is this program in a role.
func self(t testing.TB) []string {
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{path, roleFlag}
}

// BenchmarkWays prints one table of everything.
func BenchmarkWays(b *testing.B) {
	wanted, err := regexp.Compile(*only)
	if err != nil {
		b.Fatal(err)
	}
	lab := netlab.New(b)
	var ways []way
	for _, s := range setups {
		if s.names == "routed" || wanted.MatchString(s.names) {
			ways = append(ways, s.make(b, lab)...)
		}
	}
	var names []string
	for _, w := range ways {
		names = append(names, w.name)
		limit(w)
		w.server.Start("iperf3", "-s")
		w.server.Start(append(self(b), "serve")...)
	}
	found := results{}
	for b.Loop() {
		for i := range *rounds {
			fmt.Fprintf(os.Stderr, "round %d of %d, load average %s\n", i+1, *rounds, loadAverage(b))
			for _, m := range []func(testing.TB, way, results){streams(1, oneStream), streams(4, fourStreams), flooded, roundTrips} {
				for _, w := range ways {
					m(b, w, found)
				}
			}
			slices.Reverse(ways) // what drifts is not always against the same one
		}
	}
	on := ""
	if *wire != "" {
		on = " Over links of " + *wire + "."
	}
	fmt.Printf("\nMedians of %d rounds of %g s each, × the %s of the same round: median (least–greatest).%s Load average %s.\n\n",
		*rounds, *seconds, routed, on, loadAverage(b))
	found.print(os.Stdout, names, routed)
	for _, c := range []struct {
		base string
		ways []string
	}{{tracked, []string{wovenDirect, wovenVXLAN}}, {plainVXLAN, []string{wovenVXLAN}}, {hostToHost, []string{wovenWG, plainWG}}, {plainWG, []string{wovenWG}}} {
		if slices.Contains(names, c.base) {
			fmt.Printf("\n× %s:\n\n", c.base)
			found.print(os.Stdout, c.ways, c.base)
		}
	}
}

// limit has the hosts of a way send no faster than a link would.
func limit(w way) {
	if *wire == "" {
		return
	}
	for _, p := range []place{w.client, w.server} {
		h, ok := p.(*netlab.Host)
		if !ok {
			h = p.(*netlab.Container).Host
		}
		h.Run("tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", *wire, "burst", "128kb", "latency", "20ms") // segments of 64 KB stay whole
	}
}

// streams measures TCP.
func streams(n int, q quantity) func(testing.TB, way, results) {
	return func(t testing.TB, w way, found results) {
		out := w.client.Run("iperf3", "-c", w.addr, "-P", strconv.Itoa(n), "-t", strconv.Itoa(max(1, int(*seconds))), "-J")
		var r struct {
			End struct {
				Received struct {
					BitsPerSecond float64 `json:"bits_per_second"`
				} `json:"sum_received"`
			}
		}
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.End.Received.BitsPerSecond == 0 {
			t.Fatalf("%s: iperf3 says %v: %s", w.name, err, out)
		}
		found.add(q, w.name, r.End.Received.BitsPerSecond/1e6)
	}
}

func flooded(t testing.TB, w way, found results) {
	n := numbers(t, w, "flood")
	found.add(packets, w.name, n[0]/1e3)
	found.add(sending, w.name, n[1])
}

func roundTrips(t testing.TB, w way, found results) {
	n := numbers(t, w, "ping-pong")
	found.add(typical, w.name, n[0])
	found.add(slow, w.name, n[1])
}

// numbers are what this program prints when it is a client of a way.
func numbers(t testing.TB, w way, role string) (out []float64) {
	said := w.client.Run(append(self(t), role, w.addr, fmt.Sprint(*seconds))...)
	for _, f := range strings.Fields(said) {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatalf("%s: %s says %q", w.name, role, said)
		}
		out = append(out, n)
	}
	return out
}

func loadAverage(t testing.TB) string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}
