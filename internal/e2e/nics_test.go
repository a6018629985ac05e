package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/internal/netlab"
)

// heardAt waits until the link from one host to another by name is answered, and ends
// at an address.
func heardAt(t *testing.T, h *netlab.Host, peer, addr string) {
	t.Helper()
	netlab.Eventually(t, h.Name+" has a link to "+peer+" at "+addr, func() bool {
		for _, l := range status(t, h).Links {
			if l.Name == peer {
				return l.Answers && l.Underlay.String() == addr
			}
		}
		return false
	})
}

// A host on two segments is reached by each on the segment of the one who asks, and
// relays between them.
func TestHostWithTwoInterfacesIsReachedOnEachSegment(t *testing.T) {
	lab := newLab(t)
	both, left, right := lab.Host("both"), lab.Host("left"), lab.Host("right")
	second := lab.Segment(both, right)
	right.Run("ip", "link", "delete", "eth0") // it is on the second segment alone
	join := strings.Fields(both.Run("weft", "launch", "--encap", "vxlan", "--advertise", both.Addr.String()+","+second[0].String()))
	left.Run(join...)
	onSecond := strings.Fields(strings.ReplaceAll(strings.Join(join, " "), both.Addr.String(), second[0].String()))
	right.Run(onSecond...)
	hosts := []*netlab.Host{both, left, right}
	heardAt(t, left, "both", both.Addr.String())
	heardAt(t, right, "both", second[0].String())
	heardAt(t, both, "left", left.Addr.String())
	heardAt(t, both, "right", second[1].String())
	allReachEachOther(t, hosts)
}

// Where the trusted network goes down its address stays, and packets take the default
// route.
func TestPlaintextDoesNotLeaveByAnotherNetworkWhenTheTrustedOneIsDown(t *testing.T) {
	lab := newLab(t)
	h1, h2, stranger := lab.Host("h1"), lab.Host("h2"), lab.Host("h3")
	second := lab.Segment(h1, stranger)
	h1.Run("ip", "route", "add", "default", "via", second[1].String(), "dev", "eth1")
	join := strings.Fields(h1.Run("weft", "launch", "--advertise", h1.Addr.String(), "--trusted-subnets", "192.0.2.0/24"))
	h2.Run(append(join, "--trusted-subnets", "192.0.2.0/24")...)
	box, _ := attached(t, h1, "box")
	_, addr := attached(t, h2, "other")
	uses(t, h1, h2, "direct")
	netlab.Eventually(t, "ping", func() bool { return netlab.Pings(box, addr) })
	stranger.Start("bash", "-c", "exec tcpdump -l -n -x -i eth1 udp or icmp >/run/capture 2>/run/capture.log")
	netlab.Eventually(t, "tcpdump listens", func() bool { return stranger.Try("grep", "-q", "listening on", "/run/capture.log").Code == 0 })
	ping := []string{"ping", "-c", "20", "-i", "0.01", "-W", "1", "-p", "5eed5eed", addr}
	h1.Run("ip", "link", "set", "eth0", "down")
	box.Try(ping...)
	uses(t, h1, h2, "wireguard")
	box.Try(ping...)
	netlab.Eventually(t, "what is encrypted comes by", func() bool { return stranger.Try("grep", "-q", "6785", "/run/capture").Code == 0 })
	if seen := stranger.Run("cat", "/run/capture"); strings.Contains(seen, "5eed 5eed") {
		t.Errorf("plaintext is on the other network:\n%s", seen)
	}
}

// A host on two segments has direct links on both, by the address that it has there.
func TestHostWithTwoInterfacesHasDirectLinksOnEachSegment(t *testing.T) {
	for name, trusted := range map[string]string{"both are trusted": "192.0.2.0/24,198.51.100.0/24", "the second alone is": "198.51.100.0/24"} {
		t.Run(name, func(t *testing.T) {
			lab := newLab(t)
			both, right := lab.Host("both"), lab.Host("right")
			second := lab.Segment(both, right)
			right.Run("ip", "link", "delete", "eth0")
			join := both.Run("weft", "launch", "--trusted-subnets", trusted, "--advertise", both.Addr.String()+","+second[0].String())
			right.Run(append(strings.Fields(strings.ReplaceAll(join, both.Addr.String(), second[0].String())), "--trusted-subnets", trusted)...)
			uses(t, both, right, "direct")
			uses(t, right, both, "direct")
			heardAt(t, both, "right", second[1].String())
			allReachEachOther(t, []*netlab.Host{both, right})
		})
	}
}
