package wgproc

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"
)

// silence is how long a carrier waits for the next word of its successor.
const silence = 2 * time.Minute

// retiring has a carrier make no more sessions: its successor makes them.
type retiring struct{}

func (retiring) sent(packet []byte) bool {
	return kindOf(packet) != device.MessageInitiationType
}

func (retiring) received([][]byte, []int, []conn.Endpoint) {}

// offer listens for a successor.
func (p *process) offer() (*net.UnixListener, error) {
	path, dir, err := short(handPath(p.Dir, p.Device))
	if err != nil {
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	defer dir.Close()
	_ = os.Remove(path) // of one that was killed
	old := unix.Umask(0o077)
	defer unix.Umask(old)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen for a successor: %w", err)
	}
	l.SetUnlinkOnClose(false) // its name is good only now
	return l, nil
}

// giveAway serves one successor after the other until one has taken over.
func (p *process) giveAway(l *net.UnixListener, given chan<- struct{}) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return // the process ends
		}
		err = p.give(c)
		c.Close()
		if err == nil {
			close(given)
			return
		}
		p.log.Error("the hand-over came to nothing", "err", err)
	}
}

// give is the carrier's side of a hand-over. If the successor ends before it has
// everything, this process carries on; sessions that the other may have made are
// nobody's then, so all are made anew.
func (p *process) give(c *net.UnixConn) error {
	_ = c.SetReadDeadline(time.Now().Add(silence))
	if err := isRoot(c); err != nil {
		return err
	}
	content, err := expect(c, sayHello)
	var h hello
	if err == nil {
		err = json.Unmarshal(content, &h)
	}
	if err != nil || h.Version != handVersion {
		return errors.Join(err, errBroken)
	}
	p.control.stop()
	defer func() {
		if err != nil {
			p.control.start()
		}
	}()
	if err = p.sayState(c); err != nil {
		return err
	}
	var duty inspector = retiring{}
	readUDP, readTUN := true, true
	for err == nil {
		var kind byte
		_ = c.SetReadDeadline(time.Now().Add(silence))
		if kind, content, err = hear(c); err != nil {
			break
		}
		switch kind {
		case sayReadUDP:
			p.bind.inspect.Store(&duty)
			p.bind.stop()
			readUDP = false
			err = say(c, sayDone, nil)
		case sayReadTUN:
			p.tun.stop()
			readTUN = false
			err = say(c, sayDone, nil)
		case sayPacket:
			var packets []batch
			packets, err = parsePackets(content)
			for _, b := range packets {
				err = errors.Join(err, p.bind.deliver(b))
			}
		case sayEnd:
			return nil
		default:
			err = errBroken
		}
	}
	p.bind.inspect.Store(nil)
	if !readTUN {
		p.tun.start()
	}
	if !readUDP {
		p.bind.start()
		err = errors.Join(err, p.dev.Down(), p.dev.Up())
	}
	return err
}

func (p *process) sayState(c *net.UnixConn) error {
	config, err := p.dev.IpcGet()
	if err != nil {
		return fmt.Errorf("write the configuration down: %w", err)
	}
	mtu, err := p.tun.MTU()
	if err != nil {
		return err
	}
	var files []int
	defer func() {
		for _, fd := range files {
			unix.Close(fd)
		}
	}()
	socks := p.bind.sockets()
	owners := []rawConn{p.tun.File(), p.control.l}
	for _, s := range socks {
		owners = append(owners, s.udp)
	}
	for _, o := range owners {
		fd, err := duplicate(o)
		if err != nil {
			return fmt.Errorf("duplicate a descriptor: %w", err)
		}
		files = append(files, fd)
	}
	if err := sendFiles(c, files); err != nil {
		return fmt.Errorf("send descriptors: %w", err)
	}
	return sayJSON(c, sayState, state{Config: config, MTU: mtu, Sockets: len(socks)})
}

// isRoot makes sure of who is at the other end.
func isRoot(c *net.UnixConn) error {
	cred, err := peerOf(c)
	if err == nil && cred.Uid != 0 {
		err = fmt.Errorf("user %d asks for WireGuard's descriptors", cred.Uid)
	}
	return err
}

func peerOf(c *net.UnixConn) (cred *unix.Ucred, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return cred, errors.Join(e, err)
}
