package wgproc

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"time"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// heir is what the successor does with each datagram during a hand-over. It
// reads the sockets, and passes on what belongs to a session of the carrier: a
// message for a session or a handshake names it by an index, and the heir has
// seen every index of its own leave in a handshake message.
type heir struct {
	pass     func(packets []byte) // to the carrier
	mayBegin atomic.Bool          // sessions, with others that begin one

	mu  sync.RWMutex
	own map[uint32]bool // indices that this process has given out

	last  atomic.Int64 // when something was passed on, in Unix nanoseconds
	count atomic.Int64 // datagrams that were
}

func newHeir(pass func([]byte)) *heir { return &heir{pass: pass, own: map[uint32]bool{}} }

// sent notes the index in an own handshake message.
func (h *heir) sent(packet []byte) bool {
	if kind := kindOf(packet); kind == device.MessageInitiationType || kind == device.MessageResponseType {
		h.mu.Lock()
		h.own[wordAt(packet, 4)] = true
		h.mu.Unlock()
	}
	return true
}

func (h *heir) received(bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	var others []byte
	for i, size := range sizes {
		packet := bufs[i][:size]
		switch kindOf(packet) {
		case device.MessageInitiationType:
			if !h.mayBegin.Load() {
				sizes[i] = 0 // the other end tries again
			}
		case device.MessageResponseType, device.MessageCookieReplyType, device.MessageTransportType:
			if !h.isOwn(receiverOf(packet)) {
				others = appendPacket(others, eps[i].(*endpoint).AddrPort, packet)
				sizes[i] = 0
				h.count.Add(1)
			}
		}
	}
	if len(others) > 0 {
		h.last.Store(time.Now().UnixNano())
		h.pass(others)
	}
}

func (h *heir) isOwn(index uint32) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.own[index]
}

// quietFor is how long nothing was passed on, or since a moment if that is less.
func (h *heir) quietFor(since time.Time) time.Duration {
	if last := time.Unix(0, h.last.Load()); last.After(since) {
		since = last
	}
	return time.Since(since)
}

// kindOf is the type of a message, 0 for what is none.
func kindOf(packet []byte) uint32 { return wordAt(packet, 0) }

// receiverOf is the index by which a message names its receiver's session.
func receiverOf(packet []byte) uint32 {
	if kindOf(packet) == device.MessageResponseType {
		return wordAt(packet, 8) // after the sender's
	}
	return wordAt(packet, 4)
}

func wordAt(packet []byte, at int) uint32 {
	if len(packet) < at+4 {
		return 0
	}
	return binary.LittleEndian.Uint32(packet[at:])
}
