package wgproc

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weft-net/weft/internal/nl"
)

// side is a host with a process: one end of a tunnel.
type side struct {
	t        *testing.T
	ns       *nl.Namespace
	p        Process
	device   string
	key      *ecdh.PrivateKey
	underlay netip.Addr
	at       netip.AddrPort // where the other end finds it
	inside   netip.Addr     // its address in the tunnel
	renewals int
}

const tunnelPort = 6785

// sides counts them: the sockets of processes are in one directory, whatever
// namespace they are in.
var sides atomic.Int32

// pair makes two hosts with a tunnel between them over IPv4 or IPv6.
func pair(t *testing.T, six bool) (a, b *side) {
	t.Helper()
	ends := []*side{}
	for i := range 2 {
		ns, err := nl.NewNamespace()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ns.Close() })
		key, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		s := &side{t: t, ns: ns, p: Own(t.TempDir(), "test"), device: fmt.Sprintf("h%d-%d", os.Getpid(), sides.Add(1)), key: key,
			underlay: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), inside: netip.AddrFrom4([4]byte{10, 9, 0, byte(i + 1)})}
		if six {
			s.underlay = netip.MustParseAddr(fmt.Sprintf("2001:db8::%d", i+1))
		}
		s.at = netip.AddrPortFrom(s.underlay, tunnelPort)
		t.Cleanup(func() {
			if t.Failed() {
				log, _ := os.ReadFile(logPath(s.p.Dir, s.device))
				t.Logf("log of %s:\n%s", s.device, log)
			}
			if _, err := s.p.EndAll(); err != nil {
				t.Error(err)
			}
			s.wantNothingLeft()
		})
		ends = append(ends, s)
	}
	a, b = ends[0], ends[1]
	conn, err := nl.OpenIn(a.ns)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.CreateVeth(nl.Veth{Host: "u0", Peer: "u0", MTU: 1500, PeerNS: b.ns}); err != nil {
		t.Fatal(err)
	}
	for i, s := range ends {
		bits := 24
		if six {
			bits = 64
		}
		s.sh("ip link set lo up; ip address add %s/%d dev u0 %s; ip link set u0 up", s.underlay, bits, map[bool]string{true: "nodad"}[six])
		s.do(func() error { return s.p.Start(s.device, nl.AliasPrefix+"test", 1400) })
		s.sh("ip address add %s/24 dev %s; ip link set %s up", s.inside, s.device, s.device)
		peer := ends[1-i]
		s.configure(fmt.Sprintf("private_key=%x\nlisten_port=%d\n", s.key.Bytes(), tunnelPort) + peer.asPeer())
	}
	a.configure(b.keepalive())
	b.configure(a.keepalive())
	a.wantPing(b)
	return a, b
}

func (s *side) publicKey() string { return hex.EncodeToString(s.key.PublicKey().Bytes()) }

func (s *side) asPeer() string {
	return fmt.Sprintf("public_key=%s\nendpoint=%s\nallowed_ip=%s/32\n", s.publicKey(), s.at, s.inside)
}

// keepalive has the other end keep the session with this one.
func (s *side) keepalive() string {
	return keepalives([]peerState{{key: s.publicKey(), keepalive: 25}})
}

func (s *side) do(fn func() error) {
	s.t.Helper()
	if err := s.ns.Do(fn); err != nil {
		s.t.Fatal(err)
	}
}

func (s *side) try(format string, args ...any) (string, error) {
	var out []byte
	err := s.ns.Do(func() (err error) {
		out, err = exec.Command("sh", "-ec", fmt.Sprintf(format, args...)).CombinedOutput()
		return err
	})
	return string(out), err
}

func (s *side) sh(format string, args ...any) string {
	s.t.Helper()
	out, err := s.try(format, args...)
	if err != nil {
		s.t.Fatalf("%s: %v: %s", fmt.Sprintf(format, args...), err, out)
	}
	return out
}

// call speaks WireGuard's configuration protocol with whoever answers.
func call(device, request string) (string, error) {
	c, err := net.Dial("unix", socketPath(device))
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		return "", err
	}
	if err := c.(*net.UnixConn).CloseWrite(); err != nil {
		return "", err
	}
	b, err := io.ReadAll(c)
	return string(b), err
}

func (s *side) configure(text string) {
	s.t.Helper()
	answer, err := call(s.device, "set=1\n"+text)
	if err != nil || !strings.Contains(answer, "errno=0") {
		s.t.Fatalf("configure: %q, %v", answer, err)
	}
}

func (s *side) pid() int {
	s.t.Helper()
	pid, err := holder(lockPath(s.p.Dir, s.device), carrier)
	if err != nil {
		s.t.Fatal(err)
	}
	return pid
}

// upgrade makes the side's program be another build.
func (s *side) upgrade() {
	s.t.Helper()
	b, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		s.t.Fatal(err)
	}
	s.renewals++
	path := filepath.Join(s.t.TempDir(), "weft")
	// A child that is begun meanwhile would have it open, and a program that somebody
	// writes cannot be run.
	syscall.ForkLock.RLock()
	err = os.WriteFile(path, append(b, byte(s.renewals)), 0o700)
	syscall.ForkLock.RUnlock()
	if err != nil {
		s.t.Fatal(err)
	}
	s.p.Command = []string{path, "wg"}
}

// renew hands over to another build, and says how long it took.
func (s *side) renew() error {
	s.upgrade()
	old := s.pid()
	start := time.Now()
	var renewed bool
	err := s.ns.Do(func() (err error) {
		renewed, err = s.p.Renew(s.device)
		return err
	})
	if now := s.pid(); err == nil && (!renewed || now == old || now == 0) {
		err = fmt.Errorf("renewed %v, process %d, was %d", renewed, now, old)
	}
	s.t.Logf("%s: hand-over took %s", s.device, time.Since(start).Round(time.Millisecond))
	return err
}

func (s *side) wantPing(to *side) {
	s.t.Helper()
	for end := time.Now().Add(30 * time.Second); ; {
		out, err := s.try("ping -c 1 -W 1 %s", to.inside)
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("no ping: %s", out)
		}
	}
}

// wantNothingLeft is for when all has ended.
func (s *side) wantNothingLeft() {
	s.t.Helper()
	if out, err := s.try("ip link show %s", s.device); err == nil {
		s.t.Errorf("the device is left: %s", out)
	}
	for _, path := range []string{lockPath(s.p.Dir, s.device), handPath(s.p.Dir, s.device), socketPath(s.device)} {
		if _, err := os.Stat(path); err == nil {
			s.t.Errorf("%s is left", path)
		}
	}
	out, err := exec.Command("pgrep", "-af", "device="+s.device).Output()
	if err == nil {
		s.t.Errorf("a process is left: %s", out)
	}
}

// udpAt opens a UDP socket at a side's address in the tunnel.
func (s *side) udpAt() *net.UDPConn {
	s.t.Helper()
	var c *net.UDPConn
	s.do(func() (err error) {
		c, err = net.ListenUDP("udp", &net.UDPAddr{IP: s.inside.AsSlice()})
		return err
	})
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetReadBuffer(8 << 20)
	return c
}

// stream sends a numbered datagram each millisecond from one side to the other
// until it is stopped, which tells how many were sent, and which were lost.
func stream(from, to *side) (stop func() (sent int, lost []int)) {
	out, in := from.udpAt(), to.udpAt()
	end, ended := make(chan struct{}), make(chan int)
	var got atomic.Int64
	seen := make([]atomic.Bool, 1<<20)
	go func() {
		b := make([]byte, 2048)
		for {
			n, err := in.Read(b)
			if err != nil {
				return
			}
			if seq := binary.BigEndian.Uint32(b); n == 200 && !seen[seq].Swap(true) {
				got.Add(1)
			}
		}
	}()
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		b := make([]byte, 200)
		for n := 0; ; {
			select {
			case <-tick.C:
				binary.BigEndian.PutUint32(b, uint32(n))
				if _, err := out.WriteTo(b, in.LocalAddr()); err == nil {
					n++
				}
			case <-end:
				ended <- n
				return
			}
		}
	}()
	return func() (int, []int) {
		close(end)
		sent := <-ended
		for late := time.Now().Add(5 * time.Second); got.Load() < int64(sent) && time.Now().Before(late); {
			time.Sleep(10 * time.Millisecond)
		}
		var lost []int
		for n := range sent {
			if !seen[n].Load() {
				lost = append(lost, n)
			}
		}
		return sent, lost
	}
}

// transfer sends bytes by TCP from one side to the other until it is stopped,
// which tells how many bits a second arrived in which of the times.
func transfer(from, to *side) (count func() int64, stop func() error) {
	var l net.Listener
	to.do(func() (err error) {
		l, err = net.Listen("tcp", netip.AddrPortFrom(to.inside, 0).String())
		return err
	})
	var c net.Conn
	from.do(func() (err error) {
		c, err = net.DialTimeout("tcp", l.Addr().String(), 10*time.Second)
		return err
	})
	var bytes atomic.Int64
	failed := make(chan error, 2)
	go func() {
		in, err := l.Accept()
		b := make([]byte, 1<<18)
		for err == nil {
			var n int
			n, err = in.Read(b)
			bytes.Add(int64(n))
		}
		if err == io.EOF {
			err = nil
		}
		failed <- err
	}()
	var ending atomic.Bool
	go func() {
		b := make([]byte, 1<<18)
		var err error
		for err == nil && !ending.Load() {
			_, err = c.Write(b)
		}
		c.Close()
		failed <- err
	}()
	return bytes.Load, func() error {
		ending.Store(true)
		defer l.Close()
		return errorOf(<-failed, <-failed)
	}
}

func errorOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
