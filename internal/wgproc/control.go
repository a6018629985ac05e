package wgproc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// socketDir is where wg(8) and wgctrl look for WireGuard in userspace.
const socketDir = "/var/run/wireguard"

func socketPath(device string) string { return socketDir + "/" + device + ".sock" }

// lookAfter is how often a process looks whether its socket is there still.
const lookAfter = 500 * time.Millisecond

// callTime is how long a caller may take once nobody is to call any more: one that
// holds a connection and asks nothing must not hold up a hand-over.
const callTime = time.Second

// control is the socket by which the process is configured.
type control struct {
	l     *net.UnixListener
	gate  *gate
	calls sync.WaitGroup // under way

	mu    sync.Mutex
	conns map[net.Conn]bool // of calls
}

// listen makes the socket of a device, which nobody may answer at yet.
func listen(device string) (*control, error) {
	if err := os.MkdirAll(socketDir, 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of WireGuard's sockets: %w", err)
	}
	addr := &net.UnixAddr{Name: socketPath(device), Net: "unix"}
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	l, err := net.ListenUnix("unix", addr)
	if errors.Is(err, unix.EADDRINUSE) {
		if c, e := net.Dial("unix", addr.Name); e == nil {
			c.Close()
			return nil, fmt.Errorf("another WireGuard process answers at %s: its device has the same name, in another network namespace", addr.Name)
		}
		_ = os.Remove(addr.Name) // of one that was killed
		l, err = net.ListenUnix("unix", addr)
	}
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w", addr.Name, err)
	}
	return newControl(l, true), nil
}

// inheritControl takes over the socket, which is answered by its start.
func inheritControl(f *os.File) (*control, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over the socket of the device: %w", err)
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, fmt.Errorf("take over the socket of the device: it is a %T", l)
	}
	return newControl(u, false), nil
}

func newControl(l *net.UnixListener, answering bool) *control {
	l.SetUnlinkOnClose(false) // another process may answer there
	return &control{l: l, gate: newGate(answering), conns: map[net.Conn]bool{}}
}

// serve answers calls until the listener is closed or its file is removed.
func (c *control) serve(device string, handle func(net.Conn)) error {
	was, err := os.Stat(socketPath(device))
	if err != nil {
		return fmt.Errorf("the socket of device %s is gone: %w", device, err)
	}
	failed := make(chan error, 1)
	go func() { failed <- c.accept(handle) }() // ends with the listener
	tick := time.NewTicker(lookAfter)
	defer tick.Stop()
	for {
		select {
		case err := <-failed:
			return err
		case <-tick.C:
			now, err := os.Stat(socketPath(device))
			if err == nil && !os.SameFile(was, now) {
				err = fs.ErrNotExist
			}
			if err != nil {
				c.close()
				<-failed
				return fmt.Errorf("the socket of device %s is gone: %w", device, err)
			}
		}
	}
}

func (c *control) accept(handle func(net.Conn)) error {
	for {
		if !c.gate.enter() {
			return net.ErrClosed
		}
		conn, err := c.l.Accept()
		if err == nil {
			c.calls.Add(1)
			c.note(conn, true)
		}
		c.gate.leave()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
		case err != nil:
			return err
		default:
			go func() {
				defer c.calls.Done()
				defer c.note(conn, false)
				handle(conn)
			}()
		}
	}
}

func (c *control) note(conn net.Conn, underWay bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.conns, conn); underWay {
		c.conns[conn] = true
	}
}

// stop has callers wait, and returns when nothing is under way any more. Who is still
// connected after a while is hung up on.
func (c *control) stop() {
	c.gate.shut(func() { _ = c.l.SetDeadline(time.Unix(1, 0)) })
	late := time.AfterFunc(callTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for conn := range c.conns {
			conn.Close()
		}
	})
	defer late.Stop()
	c.calls.Wait()
}

func (c *control) start() {
	_ = c.l.SetDeadline(time.Time{})
	c.gate.unlock()
}

func (c *control) close() {
	c.gate.end()
	c.l.Close()
}

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
