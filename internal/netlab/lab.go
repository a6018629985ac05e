// Package netlab makes hosts for end-to-end tests: each has its own network,
// mount, process and name space, its own /run and /var/lib, and an interface
// on an underlay that the lab makes as well. Nothing of it can be seen from
// outside, and all of it dies with the test. It knows nothing of weft but
// where its binary is.
package netlab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// programs that a lab calls, with their Debian packages.
var programs = map[string]string{
	"unshare": "util-linux", "nsenter": "util-linux", "mount": "mount", "ip": "iproute2", "bridge": "iproute2", "nft": "nftables",
	"iptables-save": "iptables", "ping": "iputils-ping", "arping": "iputils-arping", "tcpdump": "tcpdump", "ps": "procps", "sysctl": "procps", "bash": "bash", "perl": "perl-base",
}

// Lab is an underlay with hosts on it.
type Lab struct {
	t        testing.TB
	underlay *Host
	hosts    []*Host
	binaries string // directory of the weft binary
}

// New makes an empty lab, which ends with the test. It fails the test where
// the machine cannot have one, and says what is missing.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("netlab makes namespaces, which takes root")
	}
	for p, pkg := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("netlab needs the program %s: apt-get install %s", p, pkg)
		}
	}
	l := &Lab{t: t, binaries: filepath.Dir(weft(t))}
	l.underlay = l.start("underlay")
	l.underlay.Run("ip", "link", "add", "br0", "type", "bridge")
	l.underlay.Run("ip", "link", "set", "br0", "up")
	return l
}

var built struct {
	once sync.Once
	path string
	err  error
}

// weft is the one under test: the one that WEFT_BINARY names, else built
// once for this process.
func weft(t testing.TB) string {
	if p := os.Getenv("WEFT_BINARY"); p != "" {
		return p
	}
	built.once.Do(func() {
		dir, err := os.MkdirTemp("", "weft-netlab")
		if err != nil {
			built.err = err
			return
		}
		built.path = filepath.Join(dir, "weft")
		cmd := exec.Command("go", "build", "-o", built.path, "github.com/weft-net/weft")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("build weft: %w: %s", err, out)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
}

// initScript is the first process of a host. It has the kernel reap orphans,
// and ends when its standard input does: with the test process, however that
// ends.
const initScript = `
mount -t tmpfs tmpfs /run && mkdir -p /run/netns /run/lock && mount -t tmpfs tmpfs /var/lib && mount -t sysfs sysfs /sys || exit 1
echo "$1" | md5sum | cut -c1-32 > /run/machine-id
if [ -e /etc/machine-id ]; then mount --bind /run/machine-id /etc/machine-id || exit 1; fi
hostname "$1" && ip link set lo up || exit 1
# Addresses are in place at once, not after duplicate address detection.
sysctl -q -w net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0 || exit 1
echo ready
exec perl -e '$SIG{CHLD} = "IGNORE"; 1 while <STDIN>'
`

// start makes the namespaces of a host without an interface.
func (l *Lab) start(name string) *Host {
	l.t.Helper()
	h := &Host{Name: name, lab: l}
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc",
		"bash", "-c", initScript, "init", name)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		l.t.Fatalf("start host %s: %v", name, err)
	}
	l.t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			l.t.Errorf("end host %s: %v", name, err)
		}
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		stdin.Close()
		l.t.Fatalf("start host %s: %q, %v: %s", name, line, err, stderr.String())
	}
	go io.Copy(io.Discard, stdout) //nolint:errcheck // ends with the host
	h.pid = child(l.t, cmd.Process.Pid)
	return h
}

// child is the one process that unshare has started.
func child(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		t.Fatalf("children of unshare: %q", b)
	}
	return n
}

// Host makes a host with eth0 on the underlay: 192.0.2.1/24 for the first, and
// so on.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := l.start(name)
	l.hosts = append(l.hosts, h)
	n := len(l.hosts)
	h.port = fmt.Sprintf("p%d", n)
	h.Addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(n)})
	link := exec.Command("ip", "link", "add", h.port, "netns", strconv.Itoa(l.underlay.pid),
		"type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.pid))
	if out, err := link.CombinedOutput(); err != nil {
		l.t.Fatalf("connect host %s: %v: %s", name, err, out)
	}
	l.underlay.Run("ip", "link", "set", h.port, "master", "br0", "up")
	h.Run("ip", "address", "add", h.Addr.String()+"/24", "dev", "eth0")
	h.connect()
	return h
}

// Segment joins hosts by eth1 to a second segment of the underlay, on which they are
// 198.51.100.1/24 and so on, in the order in which they are given, and returns that.
func (l *Lab) Segment(hosts ...*Host) (addrs []netip.Addr) {
	l.t.Helper()
	l.underlay.Run("ip", "link", "add", "br1", "type", "bridge")
	l.underlay.Run("ip", "link", "set", "br1", "up")
	for i, h := range hosts {
		addr := netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i)})
		port := "s" + h.port
		link := exec.Command("ip", "link", "add", port, "netns", strconv.Itoa(l.underlay.pid),
			"type", "veth", "peer", "name", "eth1", "netns", strconv.Itoa(h.pid))
		if out, err := link.CombinedOutput(); err != nil {
			l.t.Fatalf("connect host %s to the second segment: %v: %s", h.Name, err, out)
		}
		l.underlay.Run("ip", "link", "set", port, "master", "br1", "up")
		h.Run("ip", "address", "add", addr.String()+"/24", "dev", "eth1")
		h.Run("ip", "link", "set", "eth1", "up")
		addrs = append(addrs, addr)
	}
	return addrs
}

// Partition drops everything from the hosts of one side to those of the
// other, and back, on top of what is dropped already.
func (l *Lab) Partition(a, b []*Host) {
	l.t.Helper()
	l.underlay.Run("nft", "add table bridge lab; add chain bridge lab cut { type filter hook forward priority 0; }")
	for _, x := range a {
		for _, y := range b {
			l.underlay.Run("nft", fmt.Sprintf("add rule bridge lab cut iifname %s oifname %s drop; add rule bridge lab cut iifname %s oifname %s drop",
				x.port, y.port, y.port, x.port))
		}
	}
}

// Acquaint tells every host the hardware addresses of the others for good. What a
// host finds out by itself goes to a table that the kernel has once for the whole
// machine, by default for 1,024, so that fifty hosts or so do not fit.
func (l *Lab) Acquaint() {
	l.t.Helper()
	macs := make([]string, len(l.hosts))
	for i, h := range l.hosts {
		macs[i] = h.Run("cat", "/sys/class/net/eth0/address")
	}
	for _, h := range l.hosts {
		var batch strings.Builder
		for i, o := range l.hosts {
			if o != h {
				fmt.Fprintf(&batch, "neigh replace %s lladdr %s dev eth0 nud permanent\n", o.Addr, macs[i])
			}
		}
		if r := h.Feed(batch.String(), "ip", "-batch", "-"); r.Code != 0 {
			l.t.Fatalf("%s: %s", h.Name, r.Stderr)
		}
	}
}

// Deafen drops what is sent from one host to another, numbered in the order in
// which they were made, where that is wanted, and nothing else. It is one step,
// and takes the place of what it did before.
func (l *Lab) Deafen(drops func(from, to int) bool) {
	l.t.Helper()
	var cut []string
	for a, from := range l.hosts {
		for b, to := range l.hosts {
			if drops(a, b) {
				cut = append(cut, from.port+" . "+to.port)
			}
		}
	}
	rules := "add table bridge deaf; delete table bridge deaf;\n"
	if len(cut) > 0 {
		rules += "table bridge deaf {\nset cut { type ifname . ifname; elements = { " + strings.Join(cut, ", ") + " }; }\n" +
			"chain forward { type filter hook forward priority 0; iifname . oifname @cut drop; }\n}\n"
	}
	if r := l.underlay.Feed(rules, "nft", "-f", "-"); r.Code != 0 {
		l.t.Fatalf("deafen hosts: %s", r.Stderr)
	}
}

// Heal undoes all partitions.
func (l *Lab) Heal() {
	l.t.Helper()
	l.underlay.Run("nft", "delete table bridge lab")
}

// Eventually waits for something that has to become true by itself.
func Eventually(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute * Slowness); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if cond() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// Underlay is the machine whose bridge br0 joins the hosts, by ports p1, p2 and
// so on in the order in which they were made.
func (l *Lab) Underlay() *Host { return l.underlay }
