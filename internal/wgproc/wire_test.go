package wgproc

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"pgregory.net/rapid"
)

func TestPassedPacketsArriveInOrderWithTheirPlace(t *testing.T) {
	places := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("[2001:db8::1]:6785"), netip.MustParseAddrPort("[fe80::1%u0]:2")}
	rapid.Check(t, func(t *rapid.T) {
		type datagram struct {
			from   netip.AddrPort
			packet []byte
		}
		var sent []datagram
		var wire []byte
		for range rapid.IntRange(0, 300).Draw(t, "datagrams") {
			d := datagram{rapid.SampledFrom(places).Draw(t, "from"), rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "packet")}
			sent, wire = append(sent, d), appendPacket(wire, d.from, d.packet)
		}
		batches, err := parsePackets(wire)
		if err != nil {
			t.Fatal(err)
		}
		var got []datagram
		for _, b := range batches {
			if len(b.packets) > conn.IdealBatchSize {
				t.Fatalf("a batch of %d", len(b.packets))
			}
			for _, p := range b.packets {
				got = append(got, datagram{b.from.AddrPort, p})
			}
		}
		if !slices.EqualFunc(got, sent, func(a, b datagram) bool { return a.from == b.from && bytes.Equal(a.packet, b.packet) }) {
			t.Fatalf("got %v, sent %v", got, sent)
		}
	})
}

func FuzzParsePackets(f *testing.F) {
	f.Add(appendPacket(nil, netip.MustParseAddrPort("192.0.2.1:1"), []byte("x")))
	f.Fuzz(func(t *testing.T, b []byte) {
		batches, err := parsePackets(b)
		if err != nil {
			return
		}
		n := 0
		for _, batch := range batches {
			for _, p := range batch.packets {
				n += len(p)
			}
		}
		if n > len(b) {
			t.Errorf("%d bytes of %d", n, len(b))
		}
	})
}

func FuzzHear(f *testing.F) {
	f.Add([]byte("s\x00\x00\x00\x01x"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, content, err := hear(bytes.NewReader(b)); err == nil && len(content)+5 > len(b) {
			t.Errorf("%d bytes of %d", len(content), len(b))
		}
	})
}

// message makes a WireGuard message of a kind with an index at each place.
func message(kind uint32, indices ...uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, kind)
	for _, i := range indices {
		b = binary.LittleEndian.AppendUint32(b, i)
	}
	return append(b, make([]byte, 32)...)
}

func TestHeirKeepsWhatIsItsOwnAndPassesOnTheRest(t *testing.T) {
	var passed []batch
	h := newHeir(func(b []byte) {
		p, err := parsePackets(b)
		if err != nil {
			t.Error(err)
		}
		passed = append(passed, p...)
	})
	h.sent(message(device.MessageInitiationType, 7))
	h.sent(message(device.MessageResponseType, 8, 99))
	h.sent(message(device.MessageTransportType, 99)) // the other end's index
	for name, c := range map[string]struct {
		packet       []byte
		begin        bool
		keep, passes bool
	}{
		"data of an own session":          {message(device.MessageTransportType, 7), false, true, false},
		"data of another":                 {message(device.MessageTransportType, 99), false, false, true},
		"answer to an own beginning":      {message(device.MessageResponseType, 99, 7), false, true, false},
		"answer to the carrier's":         {message(device.MessageResponseType, 7, 99), false, false, true},
		"cookie for an own message":       {message(device.MessageCookieReplyType, 8), false, true, false},
		"cookie for another":              {message(device.MessageCookieReplyType, 98), false, false, true},
		"beginning, while others end":     {message(device.MessageInitiationType, 1), false, false, false},
		"beginning, when that is settled": {message(device.MessageInitiationType, 1), true, true, false},
		"something short":                 {[]byte{1, 2}, false, true, false},
	} {
		passed = nil
		h.mayBegin.Store(c.begin)
		sizes := []int{len(c.packet)}
		h.received([][]byte{c.packet}, sizes, []conn.Endpoint{newEndpoint(netip.MustParseAddrPort("192.0.2.1:1"))})
		if keep := sizes[0] > 0; keep != c.keep || len(passed) > 0 != c.passes {
			t.Errorf("%s: kept %v, passed on %v", name, keep, passed)
		}
	}
	if (retiring{}).sent(message(device.MessageInitiationType, 1)) || !(retiring{}).sent(message(device.MessageResponseType, 1)) {
		t.Error("a carrier that is succeeded begins no session, and ends those that are begun")
	}
}

func TestConfigurationIsTakenApart(t *testing.T) {
	settable, self, peers := readConfig("private_key=" + strings.Repeat("77", 32) + "\nlisten_port=1\npublic_key=ab\nendpoint=192.0.2.1:1\nlast_handshake_time_sec=1000\n" +
		"last_handshake_time_nsec=5\ntx_bytes=1\nrx_bytes=2\npersistent_keepalive_interval=25\nallowed_ip=10.0.0.0/8\npublic_key=cd\nlast_handshake_time_sec=0\n")
	if want := "private_key=" + strings.Repeat("77", 32) + "\nlisten_port=1\npublic_key=ab\nendpoint=192.0.2.1:1\nallowed_ip=10.0.0.0/8\npublic_key=cd\n"; settable != want {
		t.Errorf("settable:\n%s", settable)
	}
	if len(self) != 64 || !slices.Equal(peers, []peerState{{"ab", time.Unix(1000, 5), 25}, {"cd", time.Unix(0, 0), 0}}) {
		t.Errorf("self %s, peers %v", self, peers)
	}
	if now := time.Unix(1100, 0); !peers[0].alive(now) || peers[1].alive(now) || peers[0].alive(now.Add(100*time.Second)) {
		t.Error("a peer is alive for 180 s after its handshake")
	}
}

func TestOnlyTheLastJoinedDatagramMayBeShorter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var bufs [][]byte
		for range rapid.IntRange(1, 128).Draw(t, "datagrams") {
			bufs = append(bufs, make([]byte, rapid.SampledFrom([]int{32, 100, 1400, 9000}).Draw(t, "size")))
		}
		n := joinable(bufs)
		total := 0
		for i, b := range bufs[:n] {
			total += len(b)
			if len(b) != len(bufs[0]) && (i != n-1 || len(b) > len(bufs[0])) {
				t.Fatalf("datagram %d of %d has %d bytes, the first %d", i, n, len(b), len(bufs[0]))
			}
		}
		if n < 1 || n > maxSegments || n > 1 && total > maxPayload {
			t.Fatalf("%d datagrams, %d bytes", n, total)
		}
	})
}

func TestLogIsBoundedWhileItIsWritten(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	f, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	was := os.Stderr
	os.Stderr = f
	defer func() { os.Stderr = was }()
	line := []byte(strings.Repeat("x", 1<<14))
	for range 5 * maxLog / len(line) {
		if _, err := (boundedLog{path}).Write(line); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []string{path, path + ".old"} {
		if st, err := os.Stat(p); err != nil || st.Size() > maxLog+2*int64(len(line)) {
			t.Errorf("%s: %v, %v", p, st, err)
		}
	}
}
