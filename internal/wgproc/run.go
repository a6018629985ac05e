package wgproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/tun"

	"github.com/weft-net/weft/internal/nl"
)

// Config is what the process has to know; the rest it is told over its socket.
type Config struct {
	Device string // name of the TUN device that it makes
	Alias  string // marks the device; begins with nl.AliasPrefix
	MTU    int    // bytes, of the device
	Dir    string // holds the lock
}

// process is userspace WireGuard and everything that it has open.
type process struct {
	Config
	log     *slog.Logger
	tun     *gatedTUN
	bind    *bind
	dev     *device.Device
	control *control
}

func newProcess(c Config, log *slog.Logger, t *gatedTUN, b *bind) *process {
	return &process{Config: c, log: log, tun: t, bind: b, dev: device.NewDevice(t, b, quiet(log))}
}

// Run is the life of the process: until ctx ends, a successor has taken over, or
// its device or its socket is removed, which is an error. The device ends with
// it. There is one of them at most for a device.
func Run(ctx context.Context, c Config, log *slog.Logger, isReady func()) error {
	lock, err := takeLock(c.Dir, c.Device, carrier)
	if err != nil {
		return err
	}
	defer lock.close()
	link, err := tun.CreateTUN(c.Device, c.MTU)
	if err != nil {
		return fmt.Errorf("make TUN device %s: %w", c.Device, err)
	}
	if err := mark(c); err != nil {
		return errors.Join(err, link.Close())
	}
	p := newProcess(c, log, newTUN(link, true), newBind(nil))
	defer p.close()
	if p.control, err = listen(c.Device); err != nil {
		return err
	}
	// Up before it has a port, so that a port which is taken is an error of
	// the call that sets it.
	if err := p.dev.Up(); err != nil {
		return fmt.Errorf("start WireGuard on %s: %w", c.Device, err)
	}
	return p.carry(ctx, isReady)
}

// Succeed is Run for a process that takes the place of one of another build,
// without a packet lost. It is ready when the other has ended.
func Succeed(ctx context.Context, c Config, log *slog.Logger, isReady func()) error {
	lock, err := takeLock(c.Dir, c.Device, successor)
	if err != nil {
		return err
	}
	defer lock.close()
	old, err := succeed(c.Dir, c.Device)
	if err != nil {
		return err
	}
	defer old.close()
	p, state, err := old.inherit(c, log)
	if err != nil {
		return err
	}
	defer p.close()
	if err := p.takeOver(ctx, old, state); err != nil {
		return err
	}
	late, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := lock.becomeCarrier(late); err != nil {
		return err
	}
	p.control.start()
	return p.carry(ctx, isReady)
}

// carry is the life of the process once it is the carrier.
func (p *process) carry(ctx context.Context, isReady func()) error {
	given := make(chan struct{})
	if hand, err := p.offer(); err != nil {
		p.log.Error("an upgrade will interrupt traffic for a moment", "err", err)
	} else {
		defer hand.Close()
		defer removeHand(p.Dir, p.Device)
		go p.giveAway(hand, given)
	}
	failed := make(chan error, 1)
	go func() { failed <- p.control.serve(p.Device, p.dev.IpcHandle) }() // ends with p
	p.log.Info("userspace WireGuard runs", "device", p.Device)
	isReady()
	select {
	case <-given:
		p.log.Info("userspace WireGuard ends: another process has taken over", "device", p.Device)
		return nil
	case <-ctx.Done():
		p.log.Info("userspace WireGuard ends", "device", p.Device)
		return nil
	case err := <-failed:
		return err
	case <-p.dev.Wait():
		return fmt.Errorf("device %s is gone", p.Device)
	}
}

// close lets go of everything; what no other process has is gone then.
func (p *process) close() {
	if p.control != nil {
		p.control.close()
	}
	forgetSocket(p.Device)
	p.dev.Close()
	p.bind.release()
}

// mark is done by the process itself: a daemon that is killed in between must
// not leave a device that the next one takes for somebody else's.
func mark(c Config) error {
	conn, err := nl.Open()
	if err != nil {
		return err
	}
	defer conn.Close()
	link, err := conn.Link(c.Device)
	if err != nil {
		return err
	}
	return conn.AdjustLink(link, nl.LinkState{Alias: c.Alias})
}
