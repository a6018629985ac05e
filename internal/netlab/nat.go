package netlab

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strconv"
)

// Router joins a private network to the underlay by NAT: hosts behind it reach
// others, and nobody reaches them. All routers have the same network behind them.
type Router struct {
	*Host
	behind int // hosts
}

// natRules let nothing in that nobody inside has asked for. The masquerade keeps
// ports where they are free, or not.
const natRules = `
table ip nat { chain out { type nat hook postrouting priority srcnat; oifname "eth0" masquerade %s; }; }
table ip closed {
	chain in { type filter hook input priority filter; iifname "eth0" ct state new meta l4proto { tcp, udp } drop; };
	chain through { type filter hook forward priority filter; iifname "eth0" ct state new drop; };
}`

// NAT makes a router on the underlay. A random one gives each connection another
// port, so that what one host sees tells nothing to the next.
func (l *Lab) NAT(name string, random bool) *Router {
	l.t.Helper()
	r := &Router{Host: l.Host(name)}
	how := ""
	if random {
		how = "fully-random"
	}
	r.Run("ip", "link", "add", "lan", "type", "bridge")
	r.Run("ip", "address", "add", "192.168.1.1/24", "dev", "lan")
	r.Run("ip", "link", "set", "lan", "up")
	r.Run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	r.Run("nft", fmt.Sprintf(natRules, how))
	return r
}

// Forward lets in to a host behind the router what comes to these ports, TCP and UDP.
func (r *Router) Forward(to *Host, ports ...int) {
	r.lab.t.Helper()
	for _, p := range ports {
		for _, proto := range []string{"tcp", "udp"} {
			r.Run("nft", fmt.Sprintf(`
add chain ip nat in { type nat hook prerouting priority dstnat; }
add rule ip nat in iifname "eth0" %s dport %d dnat to %s
insert rule ip closed through iifname "eth0" ip daddr %[3]s %[1]s dport %[2]d accept`, proto, p, to.Addr))
		}
	}
}

// Behind makes a host behind the router: 192.168.1.2/24 for the first, and so on.
func (r *Router) Behind(name string) *Host {
	l := r.lab
	l.t.Helper()
	h := l.start(name)
	r.behind++
	h.port = r.port // what parts the router from others parts it, too
	h.Addr = netip.AddrFrom4([4]byte{192, 168, 1, byte(1 + r.behind)})
	inside := fmt.Sprintf("i%d", r.behind)
	link := exec.Command("ip", "link", "add", inside, "netns", strconv.Itoa(r.pid), "type", "veth", "peer", "name", "eth0", "netns", strconv.Itoa(h.pid))
	if out, err := link.CombinedOutput(); err != nil {
		l.t.Fatalf("connect host %s: %v: %s", name, err, out)
	}
	r.Run("ip", "link", "set", inside, "master", "lan", "up")
	h.Run("ip", "address", "add", h.Addr.String()+"/24", "dev", "eth0")
	h.connect()
	h.Run("ip", "route", "add", "default", "via", "192.168.1.1")
	return h
}
