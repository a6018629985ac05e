package wgproc

import (
	"crypto/rand"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// handshake is a message as far as it can be read on the way.
func handshake(kind uint32, size int) []byte {
	packet := make([]byte, size)
	_, _ = rand.Read(packet)
	binary.LittleEndian.PutUint32(packet, kind)
	return packet
}

func TestOfInitiationsThatCrossExactlyOneGoesOn(t *testing.T) {
	at := [2]netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:6785"), netip.MustParseAddrPort("192.0.2.2:6785")}
	for range 100 {
		ends := [2]*crossing{newCrossing(), newCrossing()}
		var sent [2][]byte
		now := time.Now()
		for i, end := range ends {
			sent[i] = handshake(device.MessageInitiationType, device.MessageInitiationSize)
			end.sent(sent[i], at[1-i], now)
		}
		accepted := 0
		for i, end := range ends {
			sizes := []int{len(sent[1-i])}
			if end.received([][]byte{sent[1-i]}, sizes, []conn.Endpoint{newEndpoint(at[1-i])}, now.Add(crossTime/2)); sizes[0] > 0 {
				accepted++
			}
		}
		if accepted != 1 {
			t.Fatalf("%d of two were accepted", accepted)
		}
	}
}

func TestInitiationsThatDoNotCrossAreAccepted(t *testing.T) {
	here, there := netip.MustParseAddrPort("192.0.2.1:6785"), netip.MustParseAddrPort("[2001:db8::2]:6785")
	now := time.Now()
	accepts := func(c *crossing, packet []byte, from netip.AddrPort, at time.Time) bool {
		sizes := []int{len(packet)}
		c.received([][]byte{packet}, sizes, []conn.Endpoint{newEndpoint(from)}, at)
		return sizes[0] > 0
	}
	for name, happens := range map[string]func(c *crossing) (from netip.AddrPort, at time.Time){
		"this end has begun nothing": func(*crossing) (netip.AddrPort, time.Time) { return there, now },
		"it has with somebody else": func(c *crossing) (netip.AddrPort, time.Time) {
			c.sent(handshake(device.MessageInitiationType, device.MessageInitiationSize), here, now)
			return there, now
		},
		"it did long ago": func(c *crossing) (netip.AddrPort, time.Time) {
			c.sent(handshake(device.MessageInitiationType, device.MessageInitiationSize), there, now)
			return there, now.Add(crossTime + 1)
		},
		"it was answered": func(c *crossing) (netip.AddrPort, time.Time) {
			c.sent(handshake(device.MessageInitiationType, device.MessageInitiationSize), there, now)
			if !accepts(c, handshake(device.MessageResponseType, device.MessageResponseSize), there, now) {
				t.Error("an answer is not accepted")
			}
			return there, now
		},
		"it sends data": func(c *crossing) (netip.AddrPort, time.Time) {
			c.sent(handshake(device.MessageTransportType, device.MessageInitiationSize), there, now)
			return there, now
		},
	} {
		for range 20 { // whichever key is smaller
			c := newCrossing()
			from, at := happens(c)
			if !accepts(c, handshake(device.MessageInitiationType, device.MessageInitiationSize), from, at) {
				t.Fatalf("%s, and an initiation is not accepted", name)
			}
			if !accepts(c, []byte{byte(device.MessageInitiationType), 0, 0, 0}, from, at) {
				t.Fatal("what is too short is the device's to refuse")
			}
		}
	}
}
