package encap

import (
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
	"github.com/weft-net/weft/internal/wgproc"
)

// strangers are peers with one prefix each, at addresses where nobody is.
func strangers(b *testing.B, n int) []Peer {
	var out []Peer
	for i := range n {
		key, err := NewPrivateKey()
		if err != nil {
			b.Fatal(err)
		}
		hi, lo := byte(i>>8), byte(i)
		out = append(out, Peer{ID: uuid.UUID{1, hi, lo}, Underlay: netip.AddrFrom4([4]byte{198, 18, hi, lo}), VTEP: netip.AddrFrom4([4]byte{10, 64 + hi, lo, 1}),
			Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64 + hi, lo, 0}), 24)}, Key: key.Public()})
	}
	return out
}

// BenchmarkPeers programs a host's end of a mesh of this size: from nothing,
// again without a change, and with one peer more.
func BenchmarkPeers(b *testing.B) {
	process := wgproc.Own(b.TempDir(), "test")
	log := slog.New(slog.DiscardHandler)
	drivers := map[string]func() (Driver, error){
		TransportDirect:    func() (Driver, error) { return NewDirect(log, keptSysctls{}, ula.Ranges{}) },
		TransportVXLAN:     func() (Driver, error) { return NewVXLAN(log) },
		TransportWireGuard: func() (Driver, error) { return NewWireGuard(log, process, CarrierAuto) },
	}
	for _, transport := range []string{TransportDirect, TransportVXLAN, TransportWireGuard} {
		for _, n := range []int{10, 100, 1000} {
			b.Run(fmt.Sprintf("%s/%d", transport, n), func(b *testing.B) {
				peers := strangers(b, n+1)
				var first, again, more time.Duration
				var memory, rounds float64
				for b.Loop() {
					err := onScratchHost(func(conn *nl.Conn) error {
						drv, err := drivers[transport]()
						if err != nil {
							return err
						}
						defer drv.Close()
						local := peers[n]
						key, err := NewPrivateKey()
						if err != nil {
							return err
						}
						l := Local{ID: uuid.UUID{9}, Device: fmt.Sprintf("s%d", os.Getpid()), Alias: nl.AliasPrefix + "test", Port: 6784, VNI: 7, Key: key,
							Underlay: netip.MustParseAddr("192.0.2.1"), Source: netip.MustParseAddr("192.0.2.1")}
						if transport == TransportDirect {
							l.Device = "u0" // the underlay's own
						}
						if err := drv.Up(l); err != nil {
							return err
						}
						for _, step := range []struct {
							took  *time.Duration
							peers []Peer
						}{{&first, peers[:n]}, {&again, peers[:n]}, {&more, append(peers[:n:n], local)}} {
							start := time.Now()
							if err := carry(drv, step.peers); err != nil {
								return err
							}
							*step.took += time.Since(start)
						}
						rounds++
						memory += resident(b, process)
						_, err = drv.Remove(l.Device)
						return err
					})
					if err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(0, "ns/op")
				for unit, d := range map[string]time.Duration{"ms-first": first, "ms-again": again, "ms-one-more": more} {
					b.ReportMetric(float64(d.Microseconds())/1000/rounds, unit)
				}
				if memory > 0 {
					b.ReportMetric(memory/rounds, "MB-resident")
				}
			})
		}
	}
}

// onScratchHost runs a function in a namespace with an underlay.
func onScratchHost(fn func(conn *nl.Conn) error) error {
	ns, err := nl.NewNamespace()
	if err != nil {
		return err
	}
	defer ns.Close()
	return ns.Do(func() error {
		conn, err := nl.Open()
		if err != nil {
			return err
		}
		defer conn.Close()
		if _, err := try(ns, "ip link add u0 type bridge; ip address add 192.0.2.1/24 dev u0; ip link set u0 up; ip link set lo up; ip route add default via 192.0.2.254"); err != nil {
			return err
		}
		return fn(conn)
	})
}

// resident is the memory of the processes that run, in MB.
func resident(b *testing.B, p wgproc.Process) (mb float64) {
	running, err := p.Running()
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range running {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.PID))
		if err != nil {
			b.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			var kb float64
			if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kb); err == nil {
				mb += kb / 1024
			}
		}
	}
	return mb
}
