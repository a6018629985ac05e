package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestHostsReachEachOtherUntilThePartition(t *testing.T) {
	lab := New(t)
	a, b := lab.Host("a"), lab.Host("b")
	if !Pings(a, b.Addr.String()) {
		t.Fatal("hosts of one underlay do not reach each other")
	}
	lab.Partition([]*Host{a}, []*Host{b})
	if Pings(a, b.Addr.String()) || Pings(b, a.Addr.String()) {
		t.Error("they do across a partition")
	}
	lab.Heal()
	if !Pings(a, b.Addr.String()) {
		t.Error("they do not after it is healed")
	}
}

func TestLossLosesAboutThatMuch(t *testing.T) {
	lab := New(t)
	a, b := lab.Host("a"), lab.Host("b")
	Pings(a, b.Addr.String()) // now they know each other's hardware addresses
	b.Loss(30)
	sent, lost, err := Lost(a.Try("ping", "-c", "300", "-i", "0.002", "-W", "1", b.Addr.String()).Stdout)
	if err != nil || sent != 300 || lost < 45 || lost > 150 {
		t.Errorf("lost %d of %d, %v; want about 30 %%", lost, sent, err)
	}
	b.Loss(0)
	if _, lost, err := Lost(a.Try("ping", "-c", "50", "-i", "0.002", "-W", "1", b.Addr.String()).Stdout); lost != 0 || err != nil {
		t.Errorf("lost %d after the end of it, %v", lost, err)
	}
}

func TestSnapshotShowsWhatChanged(t *testing.T) {
	h := New(t).Host("h")
	before := h.Snapshot()
	if d := Diff(before, h.Snapshot()); d != "" {
		t.Errorf("two looks differ:\n%s", d)
	}
	h.Run("ip", "route", "add", "10.9.0.0/16", "via", "192.0.2.77")
	h.Run("nft", "add table inet left")
	h.Run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
	h.Run("touch", "/var/lib/left")
	h.Start("sleep", "987")
	Eventually(t, "the process is seen", func() bool { return strings.Contains(Diff(before, h.Snapshot()), "sleep 987") })
	d := Diff(before, h.Snapshot())
	for _, want := range []string{"10.9.0.0/16", "table inet left", "net.ipv4.ip_forward = 1", "/var/lib/left"} {
		if !strings.Contains(d, want) {
			t.Errorf("%q is not in the difference:\n%s", want, d)
		}
	}
}

func TestOrphansAreReapedAndAllEndsWithTheTest(t *testing.T) {
	var pid int
	t.Run("a lab", func(t *testing.T) {
		lab := New(t)
		h := lab.Host("h")
		pid = h.pid
		h.Run("bash", "-c", "(setsid bash -c 'sleep 0.1' &) ; exit 0")
		h.Start("sleep", "986")
		Eventually(t, "the orphan is gone, and no zombie", func() bool {
			return strings.Join(h.Processes(), ";") == "sleep 986"
		})
	})
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid))); err == nil {
		t.Error("the host lives on after its test")
	}
	all, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range all {
		if b, err := os.ReadFile(f); err == nil && strings.HasPrefix(string(b), "sleep\x00986") {
			t.Errorf("a process of the lab lives on: %s", f)
		}
	}
}

func TestLostCountsWhatHadNoAnswerButForTheLast(t *testing.T) {
	answers := func(seqs ...int) (out string) {
		for _, n := range seqs {
			out += fmt.Sprintf("64 bytes from 10.0.0.1: icmp_seq=%d ttl=64 time=0.1 ms\n", n)
		}
		return out
	}
	for _, tc := range []struct {
		ping string
		lost int
	}{
		{answers(1, 2, 3) + "3 packets transmitted, 3 received, 0% loss", 0},
		{answers(1, 3) + "3 packets transmitted, 2 received, 33% loss", 1},
		{answers(1, 2) + "4 packets transmitted, 2 received, 50% loss", 0},
		{answers(1, 3) + "5 packets transmitted, 2 received, 60% loss", 1},
		{answers(1, 2) + "50 packets transmitted, 2 received, 96% loss", 48},
	} {
		if _, lost, err := Lost(tc.ping); lost != tc.lost || err != nil {
			t.Errorf("lost %d, %v; want %d:\n%s", lost, err, tc.lost, tc.ping)
		}
	}
}

func TestHostsBehindNATReachOthersAndAreNotReached(t *testing.T) {
	lab := New(t)
	out, r := lab.Host("out"), lab.NAT("r", false)
	a, b := r.Behind("a"), r.Behind("b")
	if !Pings(a, out.Addr.String()) || !Pings(a, b.Addr.String()) {
		t.Error("a host behind NAT does not reach others")
	}
	out.Run("ip", "route", "add", "192.168.1.0/24", "via", r.Addr.String())
	if Pings(out, a.Addr.String()) {
		t.Error("a host behind NAT is reached")
	}
}
