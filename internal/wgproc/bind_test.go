package wgproc

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/weft-net/weft/internal/nl"
)

func TestSourceThatIsNoMoreThisHostsIsForgotten(t *testing.T) {
	ns, err := nl.NewNamespace()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	s := &side{t: t, ns: ns}
	s.sh("ip link set lo up")
	for name, to := range map[string]struct {
		addr   string
		source []byte
	}{
		"IPv4": {"127.0.0.1", (&ipv4.ControlMessage{Src: net.ParseIP("192.0.2.9")}).Marshal()},
		"IPv6": {"::1", (&ipv6.ControlMessage{Src: net.ParseIP("2001:db8::9")}).Marshal()},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBind(nil)
			var port uint16
			s.do(func() (err error) { _, port, err = b.Open(0); return err })
			defer b.release()
			defer b.Close()
			e := newEndpoint(netip.AddrPortFrom(netip.MustParseAddr(to.addr), port))
			e.src.Store(&to.source)
			if err := b.Send([][]byte{[]byte("a datagram")}, e); err != nil || e.src.Load() != nil {
				t.Errorf("%v; the source is %s", err, e.SrcToString())
			}
		})
	}
}

func TestAnswersAreNotBoundToTheInterfaceByWhichAPacketCame(t *testing.T) {
	for from, came := range map[string][]byte{
		"192.0.2.1:1":     (&ipv4.ControlMessage{Src: net.ParseIP("192.0.2.9"), IfIndex: 7}).Marshal(),
		"[2001:db8::1]:1": (&ipv6.ControlMessage{Src: net.ParseIP("2001:db8::9"), IfIndex: 7}).Marshal(),
	} {
		e := newEndpoint(netip.MustParseAddrPort(from))
		e.noteControl(came)
		if !strings.HasSuffix(e.SrcToString(), "9") {
			t.Errorf("%s is answered from %s", from, e.SrcToString())
		}
		want := (&ipv4.ControlMessage{Src: net.ParseIP("192.0.2.9")}).Marshal()
		if e.Addr().Is6() {
			want = (&ipv6.ControlMessage{Src: net.ParseIP("2001:db8::9")}).Marshal()
		}
		if got := *e.src.Load(); !bytes.Equal(got, want) {
			t.Errorf("%s is answered by %x; want %x", from, got, want)
		}
	}
}
