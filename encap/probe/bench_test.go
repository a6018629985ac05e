package probe

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

// BenchmarkThousandPaths says what the core costs: for each time that it is
// woken, for a second of its life, and in memory.
func BenchmarkThousandPaths(b *testing.B) {
	const paths = 1000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	w := newWorld(b, 1, paths)
	runtime.GC()
	runtime.ReadMemStats(&after)
	w.run(10 * time.Second)
	ticks, spent, begin := 0, time.Duration(0), w.now
	for b.Loop() {
		// As in the loop: what is due, when it is due again; and its answers.
		w.now = max(w.fleet.due(), w.now+w.fleet.rest())
		start := time.Now()
		asks := w.fleet.tick(w.now, nil)
		for _, a := range asks {
			w.fleet.answer(w.now, a.target.Path, a.seq, a.size)
		}
		w.fleet.due()
		spent += time.Since(start)
		ticks++
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/paths, "B/path")
	b.ReportMetric(float64(spent)/float64(ticks), "ns/tick")
	b.ReportMetric(float64(spent)/(w.now-begin).Seconds(), "ns/second")
}

// BenchmarkProbeBesidePlainEcho compares a small probe, there and back between
// two hosts, with a UDP echo of the same size on the same way.
func BenchmarkProbeBesidePlainEcho(b *testing.B) {
	l := newLab(b)
	l.b.set(l.a, "u0")
	dial := func(port uint16) (conn *net.UDPConn) {
		if err := l.a.ns.Do(func() (err error) {
			conn, err = net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.a.gateway, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.b.gateway, port)))
			return err
		}); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		return conn
	}
	var echo *net.UDPConn
	if err := l.b.ns.Do(func() (err error) {
		echo, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(l.b.gateway, 7)))
		return err
	}); err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, mostSize)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	plain, probe, c := dial(7), dial(Port), codecOf(b, 1)
	out, in := make([]byte, mostSize), make([]byte, mostSize)
	roundTrip := func(conn *net.UDPConn, packet []byte) []byte {
		if _, err := conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		n, err := conn.Read(in)
		if err != nil {
			b.Fatal(err)
		}
		return in[:n]
	}
	var plainly, probing time.Duration
	n := 0
	for b.Loop() {
		start := time.Now()
		roundTrip(plain, out[:smallSize-headers])
		plainly += time.Since(start)
		if n++; n%2 == 0 {
			time.Sleep(500 * time.Microsecond) // stay below the limit of answers
		}
		start = time.Now()
		m := message{kindAsk, l.a.id, l.b.id, uint64(n), smallSize}
		if _, err := c.open(roundTrip(probe, c.seal(out, m))); err != nil {
			b.Fatal(err)
		}
		probing += time.Since(start)
	}
	b.ReportMetric(float64(plainly)/float64(n), "ns/echo")
	b.ReportMetric(float64(probing)/float64(n), "ns/probe")
	b.ReportMetric(float64(probing)/float64(plainly), "probe/echo")
}
