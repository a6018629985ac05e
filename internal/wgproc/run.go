package wgproc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
	"golang.zx2c4.com/wireguard/ipc"
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

// Run is the life of the process: until ctx ends, or its device or its socket
// is removed, which is an error. The device ends with it. There is one of them
// at most in a directory, and one for a device.
func Run(ctx context.Context, c Config, log *slog.Logger, isReady func()) error {
	lock, err := takeLock(c.Dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	link, err := tun.CreateTUN(c.Device, c.MTU)
	if err != nil {
		return fmt.Errorf("make TUN device %s: %w", c.Device, err)
	}
	if err := mark(c); err != nil {
		return errors.Join(err, link.Close())
	}
	dev := device.NewDevice(link, conn.NewDefaultBind(), quiet(log))
	defer dev.Close()
	control, err := listen(c.Device)
	if err != nil {
		return err
	}
	defer forgetSocket(c.Device)
	defer control.Close()
	failed := make(chan error, 1)
	go func() { // ends with the listener
		for {
			conn, err := control.Accept()
			if err != nil {
				failed <- err
				return
			}
			go dev.IpcHandle(conn)
		}
	}()
	// Up before it has a port, so that a port which is taken is an error of
	// the call that sets it.
	if err := dev.Up(); err != nil {
		return fmt.Errorf("start WireGuard on %s: %w", c.Device, err)
	}
	log.Info("userspace WireGuard runs", "device", c.Device)
	isReady()
	select {
	case <-ctx.Done():
		log.Info("userspace WireGuard ends", "device", c.Device)
		return nil
	case err := <-failed:
		return fmt.Errorf("the socket of device %s is gone: %w", c.Device, err)
	case <-dev.Wait():
		return fmt.Errorf("device %s is gone", c.Device)
	}
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

func listen(name string) (net.Listener, error) {
	file, err := ipc.UAPIOpen(name)
	if err == nil {
		var l net.Listener
		if l, err = ipc.UAPIListen(name, file); err == nil {
			return l, nil
		}
	}
	if c, dialErr := net.Dial("unix", socketPath(name)); dialErr == nil {
		c.Close()
		return nil, fmt.Errorf("another WireGuard process answers at %s: its device has the same name, in another network namespace", socketPath(name))
	}
	return nil, fmt.Errorf("listen at %s: %w", socketPath(name), err)
}

// socketDir is where wg(8) and wgctrl look for WireGuard in userspace.
const socketDir = "/var/run/wireguard"

func socketPath(device string) string { return socketDir + "/" + device + ".sock" }

// forgetSocket removes the socket that a killed process left; one that somebody
// answers at is not ours. The directory goes if nobody else uses it.
func forgetSocket(device string) {
	if c, err := net.Dial("unix", socketPath(device)); err == nil {
		c.Close()
	} else {
		_ = os.Remove(socketPath(device))
	}
	_ = os.Remove(socketDir)
}
