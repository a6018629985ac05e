package wgproc

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.zx2c4.com/wireguard/tun"
)

// gatedTUN is a TUN device of which another process may have the turn to read.
// Both may write all the time.
type gatedTUN struct {
	tun.Device
	gate *gate
}

// newTUN wraps a device; reading begins at once or by its start.
func newTUN(dev tun.Device, reading bool) *gatedTUN { return &gatedTUN{dev, newGate(reading)} }

// inheritTUN takes over an open device.
func inheritTUN(f *os.File, mtu int) (*gatedTUN, error) {
	dev, err := tun.CreateTUNFromFile(f, mtu)
	if err != nil {
		return nil, fmt.Errorf("take over the TUN device: %w", err)
	}
	return newTUN(dev, false), nil
}

// Read waits for this process's turn.
func (t *gatedTUN) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	for {
		if !t.gate.enter() {
			return 0, os.ErrClosed
		}
		n, err := t.Device.Read(bufs, sizes, offset)
		t.gate.leave()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
	}
}

// stop ends reading, without a packet that was read and not handed on.
func (t *gatedTUN) stop() {
	t.gate.shut(func() { _ = t.File().SetReadDeadline(time.Unix(1, 0)) })
}

func (t *gatedTUN) start() {
	_ = t.File().SetReadDeadline(time.Time{})
	t.gate.unlock()
}

// Close lets go of the device; it is gone when no process has it.
func (t *gatedTUN) Close() error {
	t.gate.end()
	return t.Device.Close()
}
