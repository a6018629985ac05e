package e2e

import (
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

func TestTargetsAreAddressesNamesFilesAndPrograms(t *testing.T) {
	lab := newLab(t)
	first, byName, byFile, byProgram := lab.Host("h1"), lab.Host("h2"), lab.Host("h3"), lab.Host("h4")
	onSegment, stranger := lab.Host("h5"), lab.Host("stranger")
	stranger.Run("weft", "launch")
	first.Run("weft", "launch")
	line := strings.Fields(first.Run("weft", "token", "show"))
	token := line[len(line)-1]
	nobody := "192.0.2.250"
	join := func(h *netlab.Host, target string) {
		t.Helper()
		h.Run("weft", "launch", "--join", target, "--token", token)
	}

	// A name leads to several hosts, not all of which are there.
	write(t, byName, "/run/hosts", nobody+" seeds.example\n"+first.Addr.String()+" seeds.example\n")
	byName.Run("mount", "--bind", "/run/hosts", "/etc/hosts")
	join(byName, "seeds.example")

	write(t, byFile, "/run/peers", "# rack 1\n"+nobody+"\n")
	refuses(t, byFile, 1, "no weft answers at "+nobody, "weft", "launch", "--join", "file:/run/peers", "--token", token)
	refuses(t, byFile, 1, "no such file", "weft", "launch", "--join", "file:/run/none", "--token", token)
	write(t, byFile, "/run/peers", "# rack 1\n"+nobody+"\n"+first.Addr.String()+"\n")
	join(byFile, "file:/run/peers")

	write(t, byProgram, "/run/discover", "#!/bin/bash\necho $1\n")
	byProgram.Run("chmod", "755", "/run/discover")
	join(byProgram, "exec:/run/discover "+first.Addr.String()+":6783")

	join(onSegment, "multicast:")

	for _, h := range []*netlab.Host{byName, byFile, byProgram, onSegment} {
		netlab.Eventually(t, h.Name+" knows all five", func() bool { return len(status(t, h).Peers) == 5 })
		if ts := status(t, h).Targets; len(ts) != 1 || !ts[0].Connected || len(ts[0].Addresses) == 0 {
			t.Errorf("%s has targets %+v", h.Name, ts)
		}
	}
	// It is read again and again.
	write(t, byFile, "/run/peers", byName.Addr.String()+"\n")
	netlab.Eventually(t, "the file is read again", func() bool {
		ts := status(t, byFile).Targets
		return len(ts[0].Addresses) == 1 && strings.HasPrefix(ts[0].Addresses[0], byName.Addr.String())
	})
}

// A host on two segments is found on each, also when an address goes to another
// interface.
func TestHostIsFoundByMulticastOnTheSegmentOfEachAddress(t *testing.T) {
	lab := newLab(t)
	both, early, late := lab.Host("both"), lab.Host("early"), lab.Host("late")
	second := lab.Segment(both, early, late)
	for _, h := range []*netlab.Host{early, late} {
		h.Run("ip", "link", "delete", "eth0") // they are on the second segment alone
	}
	both.Run("weft", "launch", "--advertise", both.Addr.String()+","+second[0].String())
	join := []string{"weft", "launch", "--join", "multicast:", "--token", tokenOf(t, both)}
	netlab.Eventually(t, "one finds it on the second segment", func() bool { return early.Try(join...).Code == 0 })
	early.Run("weft", "leave", "--yes")
	both.Run("bash", "-c", `ip link add lan type bridge && ip link set eth1 master lan && ip link set lan up &&
		ip address del `+second[0].String()+`/24 dev eth1 && ip address add `+second[0].String()+`/24 dev lan`)
	netlab.Eventually(t, "another finds it when the address is a bridge's", func() bool { return late.Try(join...).Code == 0 })
	netlab.Eventually(t, "it is a member", func() bool { return stateOf(status(t, both), "late") == "alive" })
}

func TestConnectAndForgetAreKept(t *testing.T) {
	lab, hosts := launched(t, 2)
	a, b := hosts[0], hosts[1]
	names := func(h *netlab.Host) (out []string) {
		for _, x := range status(t, h).Targets {
			out = append(out, x.Target)
		}
		return out
	}
	other := lab.Host("other")
	other.Run("weft", "launch") // another mesh

	if got := a.Try("weft", "connect", b.Addr.String()); got.Code != 0 || !strings.Contains(got.Stderr, b.Addr.String()+": connected") {
		t.Errorf("connect: %+v", got)
	}
	a.Run("weft", "connect", b.Addr.String()+":6783") // the same one
	refuses(t, a, 2, "is not a host", "weft", "connect", b.Addr.String(), "not/a/host")
	refuses(t, a, 1, "is none of the hosts to join", "weft", "forget", "192.0.2.77")
	if got := a.Try("weft", "connect", other.Addr.String()); got.Code != 4 || !strings.Contains(got.Stderr, "another mesh") && !strings.Contains(got.Stderr, "belongs to mesh") {
		t.Errorf("connect to another mesh: %+v", got)
	}
	if got := names(a); len(got) != 2 {
		t.Errorf("targets: %v", got)
	}
	a.Run("weft", "connect", "--replace", b.Addr.String())
	kill9(t, a)
	a.Run("weft", "launch")
	if got := names(a); len(got) != 1 || got[0] != b.Addr.String() {
		t.Errorf("after a crash: %v", got)
	}
	a.Run("weft", "forget", b.Addr.String())
	if got := names(a); len(got) != 0 {
		t.Errorf("after forget: %v", got)
	}
	// Who is known is found again without being a target.
	b.Run("weft", "forget", a.Addr.String())
	b.Run("weft", "stop")
	netlab.Eventually(t, "it is missed", func() bool { return stateOf(status(t, a), b.Name) == "failed" })
	// As its unit file says it at each start.
	again := b.Try("weft", "launch", "--join", a.Addr.String(), "--token", tokenOf(t, a))
	if again.Code != 0 || !strings.Contains(again.Stderr, "leave out") || !strings.Contains(again.Stderr, a.Addr.String()+": taken away") {
		t.Errorf("launch with what was forgotten: %+v", again)
	}
	if got := names(b); len(got) != 0 {
		t.Errorf("after a launch with the --join of the last one: %v", got)
	}
	netlab.Eventually(t, "they find each other again", func() bool { return stateOf(status(t, a), b.Name) == "alive" })
	b.Run("weft", "stop")
	b.Run("weft", "launch", "--join", a.Addr.String()+":6783")
	if got := names(b); len(got) != 1 {
		t.Errorf("after a launch with another --join: %v", got)
	}
}

// write makes a file on a host.
func write(t *testing.T, h *netlab.Host, path, text string) {
	t.Helper()
	h.Run("bash", "-c", `printf %s "$2" > "$1"`, "bash", path, text)
}

func stateOf(s api.Status, name string) string {
	for _, p := range s.Peers {
		if p.Name == name {
			return p.State
		}
	}
	return ""
}
