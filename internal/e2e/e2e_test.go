package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// together has tests run two at a time, since most of what they do is to wait: a
// lab is seen by nobody else.
var together sync.Map

// launched makes a lab with n hosts that are one mesh, which is founded with
// these flags.
func launched(t *testing.T, n int, flags ...string) (*netlab.Lab, []*netlab.Host) {
	t.Helper()
	runTogether(t)
	return launchedAlone(t, n, flags...)
}

// newLab is a lab without hosts.
func newLab(t *testing.T) *netlab.Lab {
	t.Helper()
	runTogether(t)
	return netlab.New(t)
}

// runTogether lets another test run beside this one, which is no part of one.
func runTogether(t *testing.T) {
	t.Helper()
	if _, again := together.LoadOrStore(t.Name(), true); !again && !strings.Contains(t.Name(), "/") {
		t.Parallel()
	}
}

// inTime says how long something took that is promised within a time, and fails if that
// was three times as long: by so much no other work on the machine slows it down.
func inTime(t *testing.T, what string, began time.Time, promised time.Duration) {
	t.Helper()
	took := time.Since(began)
	t.Logf("%s after %s", what, took.Round(10*time.Millisecond))
	if took > 3*promised*netlab.Slowness {
		t.Errorf("%s after %s; %s are promised", what, took, promised)
	}
}

// launchedAlone is launched for a test that runs while no other does.
func launchedAlone(t *testing.T, n int, flags ...string) (*netlab.Lab, []*netlab.Host) {
	t.Helper()
	lab := netlab.New(t)
	var hosts []*netlab.Host
	var join []string
	for i := range n {
		h := lab.Host(fmt.Sprintf("h%d", i+1))
		hosts = append(hosts, h)
		if i == 0 {
			join = strings.Fields(h.Run(append([]string{"weft", "launch"}, flags...)...))
		} else {
			h.Run(join...)
		}
	}
	for _, h := range hosts {
		netlab.Eventually(t, h.Name+" has a link to every other host", func() bool {
			links := 0
			for _, l := range status(t, h).Links {
				if l.Reason == "" {
					links++
				}
			}
			return links == n-1
		})
	}
	return lab, hosts
}

func status(t *testing.T, h *netlab.Host) api.Status {
	t.Helper()
	r := h.Try("weft", "status", "-o", "json")
	var s api.Status
	if err := json.Unmarshal([]byte(r.Stdout), &s); err != nil {
		t.Fatalf("%s: status: %v: %s%s", h.Name, err, r.Stdout, r.Stderr)
	}
	return s
}

// attached makes a container that is on the network.
func attached(t *testing.T, h *netlab.Host, name string) (*netlab.Container, string) {
	t.Helper()
	c := h.Container(name)
	return c, h.Run("weft", "attach", name)
}

// mustPing fails the test if from does not reach an address.
func mustPing(t *testing.T, from netlab.Pinger, to, what string) {
	t.Helper()
	if !netlab.Pings(from, to) {
		t.Errorf("no ping: %s (%s)", what, to)
	}
}

// refuses runs a command that has to fail in one line that says what we want.
func refuses(t *testing.T, h *netlab.Host, code int, want string, args ...string) {
	t.Helper()
	r := h.Try(args...)
	if r.Code != code || !strings.Contains(r.Stderr, want) || strings.Count(strings.TrimSpace(lastPart(r.Stderr)), "\n") > 0 || r.Stdout != "" {
		t.Errorf("%q: exit code %d (want %d), stdout %q, stderr (want %q):\n%s", args, r.Code, code, r.Stdout, want, r.Stderr)
	}
}

// lastPart leaves out the steps that a launch had done before it failed.
func lastPart(stderr string) string {
	var out []string
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "  ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

func TestThreeHostsAreOneNetwork(t *testing.T) {
	_, hosts := launched(t, 3)
	var names []netlab.Pinger
	var addrs []string
	seen := map[string]bool{}
	for _, h := range hosts {
		names, addrs = append(names, h), append(addrs, status(t, h).Bridge.Gateway.Addr().String())
		for _, n := range []string{"a", "b"} {
			c, addr := attached(t, h, n)
			if seen[addr] {
				t.Errorf("%s was given twice", addr)
			}
			seen[addr] = true
			names, addrs = append(names, c), append(addrs, addr)
		}
	}
	for i, from := range names {
		for j, to := range addrs {
			mustPing(t, from, to, fmt.Sprintf("%d to %d", i, j))
		}
	}

	t.Run("the range is split in aligned parts that all see alike", func(t *testing.T) {
		total := 0
		for _, h := range hosts {
			s := status(t, h)
			if len(s.IPAM.Shares) != 3 || s.IPAM.Unowned != 0 {
				t.Errorf("%s sees shares %+v", h.Name, s.IPAM.Shares)
			}
			if len(s.Self.Prefixes) != 1 {
				t.Errorf("%s has %v; want one prefix", h.Name, s.Self.Prefixes)
			}
			for _, sh := range s.IPAM.Shares {
				if sh.ID == s.Self.ID {
					total += sh.Blocks
				}
			}
		}
		if all := status(t, hosts[0]).IPAM.Blocks; total != all {
			t.Errorf("the shares sum up to %d of %d blocks", total, all)
		}
	})
	t.Run("an address of nobody is answered by nobody", func(t *testing.T) {
		const nobody = "10.32.0.77"
		if netlab.Pings(names[1], nobody) {
			t.Errorf("somebody answers for %s", nobody)
		}
		out := names[1].Try("ip", "neigh", "show", nobody).Stdout
		if strings.Contains(out, "REACHABLE") || strings.Contains(out, "STALE") {
			t.Errorf("somebody answers ARP for it: %s", out)
		}
	})
	t.Run("large packets pass up to the MTU", func(t *testing.T) {
		mtu := status(t, hosts[0]).Bridge.MTU // less the headers of ICMP and IP:
		if r := names[1].Try("ping", "-c", "1", "-M", "do", "-s", fmt.Sprint(mtu-28), addrs[8]); r.Code != 0 || mtu < 1400 {
			t.Errorf("%d bytes do not pass: %s", mtu, r.Stdout)
		}
	})
	t.Run("a container sees itself nowhere else (duplicate address detection)", func(t *testing.T) {
		c := names[1].(*netlab.Container)
		if r := c.Try("arping", "-D", "-c", "2", "-w", "2", "-I", "eth0", addrs[4]); r.Code != 0 {
			t.Errorf("a probe for an address elsewhere is answered: %s", r.Stdout)
		}
		if r := c.Try("arping", "-D", "-c", "2", "-w", "2", "-I", "eth0", addrs[2]); r.Code != 1 {
			t.Errorf("a probe for an address on the same bridge is not answered: %s", r.Stdout)
		}
	})
}

func TestAttachIsIdempotentByAnyNameOfTheNamespace(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	c, addr := attached(t, h, "c1")
	c.Start("sleep", "300")
	netlab.Eventually(t, "the process runs", func() bool { return h.Try("pgrep", "-n", "sleep").Code == 0 })
	pid := h.Run("pgrep", "-n", "sleep")
	for _, ref := range []string{"c1", "/run/netns/c1", "/var/run/netns/c1", pid} {
		if ref == "/var/run/netns/c1" && h.Try("test", "-e", ref).Code != 0 {
			continue // /var/run is no link to /run here
		}
		if got := h.Run("weft", "attach", ref); got != addr {
			t.Errorf("attach %s = %s; want %s again", ref, got, addr)
		}
	}
	if n := len(strings.Fields(h.Run("weft", "ps", "-o", "name"))); n != 1 {
		t.Errorf("%d containers are listed", n)
	}
	if got := h.Run("weft", "detach", pid); got != addr {
		t.Errorf("detach by pid = %q", got)
	}
	refuses(t, h, 1, "is not attached", "weft", "detach", "c1")
}

func TestExplicitAddressesAndExhaustion(t *testing.T) {
	lab := netlab.New(t)
	h := lab.Host("h1")
	join := strings.Fields(h.Run("weft", "launch", "--range", "10.99.0.0/28"))
	for _, c := range []string{"c1", "c2", "c3"} {
		h.Container(c)
	}
	if got := h.Run("weft", "attach", "c1", "10.99.0.9"); got != "10.99.0.9" {
		t.Errorf("attach with an address = %s", got)
	}
	refuses(t, h, 1, "is taken", "weft", "attach", "c2", "10.99.0.9")
	refuses(t, h, 1, "is taken", "weft", "attach", "c2", "10.99.0.1") // the gateway
	refuses(t, h, 2, "outside of the range", "weft", "attach", "c2", "10.100.0.9")
	refuses(t, h, 2, "reserved", "weft", "attach", "c2", "10.99.0.0")
	refuses(t, h, 2, "reserved", "weft", "attach", "c2", "10.99.0.15")
	refuses(t, h, 2, "prefix length", "weft", "attach", "c2", "10.99.0.8/24")
	if got := h.Run("weft", "attach", "c1", "10.99.0.10"); got != "10.99.0.9\n10.99.0.10" {
		t.Errorf("attach with a second address = %s", got)
	}
	h.Run("weft", "detach", "c1", "10.99.0.10")
	if got := h.Run("weft", "attach", "c2", "10.99.0.8/28"); got != "10.99.0.8" {
		t.Errorf("attach with a prefix length = %s", got)
	}

	h2 := lab.Host("h2")
	h2.Run(join...)
	foreign := status(t, h2).Self.Prefixes[0].Addr().String()
	refuses(t, h, 1, "belongs to host h2", "weft", "attach", "c3", foreign)

	given := map[string]bool{}
	for i := range 20 {
		name := fmt.Sprintf("x%d", i)
		h.Container(name)
		r := h.Try("weft", "attach", name)
		if r.Code != 0 {
			if !strings.Contains(r.Stderr, "no free address") || !strings.Contains(r.Stderr, "h2") {
				t.Errorf("exhaustion says: %s", r.Stderr)
			}
			break
		}
		a := netip.MustParseAddr(strings.TrimSpace(r.Stdout))
		if given[a.String()] || !netip.MustParsePrefix("10.99.0.0/28").Contains(a) || a.As4()[3] == 0 || a.As4()[3] == 15 {
			t.Errorf("given: %s", a)
		}
		given[a.String()] = true
	}
	if n := len(given); n == 0 || n > 10 {
		t.Errorf("%d addresses were given", n)
	}
	h.Run("weft", "detach", "c1")
	if got := h.Run("weft", "attach", "c1"); got == "" {
		t.Error("a freed address is not given again")
	}
}

func TestFreedAddressIsReachableAtOnceWithItsNewOwner(t *testing.T) {
	_, hosts := launched(t, 2)
	near, _ := attached(t, hosts[0], "near")
	far, _ := attached(t, hosts[1], "far")
	for i := range 3 {
		name := fmt.Sprintf("c%d", i)
		hosts[0].Container(name)
		hosts[0].Run("weft", "attach", name, "10.32.0.50")
		for what, from := range map[string]netlab.Pinger{"same host": near, "other host": far, "the host itself": hosts[0], "the other host itself": hosts[1]} {
			if r := from.Try("ping", "-c", "1", "-W", "1", "10.32.0.50"); r.Code != 0 {
				t.Errorf("round %d: the first ping from the %s is lost", i, what)
			}
		}
		hosts[0].Run("weft", "detach", name)
	}
}

func TestExposeAndHide(t *testing.T) {
	_, hosts := launched(t, 2)
	far, _ := attached(t, hosts[1], "far")
	addr := hosts[0].Run("weft", "expose")
	if again := hosts[0].Run("weft", "expose"); again != addr {
		t.Errorf("expose again = %s; want %s", again, addr)
	}
	mustPing(t, far, addr, "a container to an exposed host")
	both := hosts[0].Run("weft", "expose", "10.32.0.99")
	if both != addr+"\n10.32.0.99" {
		t.Errorf("expose of another = %q", both)
	}
	mustPing(t, far, "10.32.0.99", "a container to a host by an address of choice")
	hosts[0].Run("weft", "hide", addr)
	if netlab.Pings(far, addr) {
		t.Error("a hidden address still answers")
	}
	mustPing(t, far, "10.32.0.99", "the other address")
	hosts[0].Run("weft", "hide")
	if out := hosts[0].Run("weft", "hide"); out != "" {
		t.Errorf("after hide: %q", out)
	}
	refuses(t, hosts[0], 1, "is not exposed", "weft", "hide", "10.32.0.99")
}

func TestContainersReachTheOutsideBehindTheirHost(t *testing.T) {
	lab, hosts := launched(t, 2)
	outside := lab.Host("outside") // knows nothing of the containers' range
	c, addr := attached(t, hosts[0], "c")
	stop := outside.Start("tcpdump", "-l", "-n", "-i", "eth0", "-c", "1", "icmp")
	netlab.Eventually(t, "the outside is reached", func() bool { return netlab.Pings(c, outside.Addr.String()) })
	netlab.Eventually(t, "it saw a packet", func() bool {
		return !strings.Contains(strings.Join(outside.Processes(), ";"), "tcpdump")
	})
	if got := stop(); !strings.Contains(got, hosts[0].Addr.String()+" >") || strings.Contains(got, addr) {
		t.Errorf("the outside sees: %s", got)
	}
	// Between containers nothing is hidden.
	far, farAddr := attached(t, hosts[1], "far")
	stop = far.Start("tcpdump", "-l", "-n", "-i", "eth0", "-c", "1", "icmp")
	netlab.Eventually(t, "tcpdump listens", func() bool { return netlab.Pings(c, farAddr) })
	if got := stop(); strings.Contains(got, "listening") && !strings.Contains(got, addr+" >") {
		t.Errorf("the other container sees: %s", got)
	}
}
