package wgproc

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// The two processes of a hand-over may be of different builds, so what they say
// to each other has a version. It is raised when it changes.
const handVersion = 1

// What is said: a byte for the kind, four for the length of what follows.
const (
	sayHello   = 'h' // successor: its version
	sayState   = 's' // carrier: state, with the descriptors
	sayReadUDP = 'u' // successor: it is my turn to read the UDP sockets
	sayReadTUN = 't' // successor: it is my turn to read the device
	sayPacket  = 'p' // successor: these are for your sessions
	sayEnd     = 'e' // successor: you are not needed any more
	sayDone    = 'd' // carrier: as you say
)

// maxSaid is the most that is taken for one thing said, in bytes: the state of
// as many peers as WireGuard can have.
const maxSaid = 64 << 20

type hello struct {
	Version int `json:"version"`
}

// state is what the successor needs to be the carrier.
type state struct {
	Config  string `json:"config"`  // as WireGuard's own configuration protocol has it
	MTU     int    `json:"mtu"`     // of the device
	Sockets int    `json:"sockets"` // UDP
}

var errBroken = errors.New("the other process of the hand-over does not keep to what was agreed")

func say(w io.Writer, kind byte, content []byte) error {
	b := make([]byte, 5, 5+len(content))
	b[0] = kind
	binary.BigEndian.PutUint32(b[1:], uint32(len(content)))
	_, err := w.Write(append(b, content...))
	return err
}

func sayJSON(w io.Writer, kind byte, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return say(w, kind, b)
}

func hear(r io.Reader) (kind byte, content []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n > maxSaid {
		return 0, nil, errBroken
	}
	content = make([]byte, n)
	_, err = io.ReadFull(r, content)
	return head[0], content, err
}

// expect hears one kind of thing.
func expect(r io.Reader, want byte) ([]byte, error) {
	kind, content, err := hear(r)
	if err == nil && kind != want {
		err = errBroken
	}
	return content, err
}

// appendPacket adds a datagram and where it came from to a packet message.
func appendPacket(b []byte, from netip.AddrPort, packet []byte) []byte {
	addr, _ := from.MarshalBinary()
	b = append(b, byte(len(addr)))
	b = append(b, addr...)
	b = binary.BigEndian.AppendUint16(b, uint16(len(packet)))
	return append(b, packet...)
}

// parsePackets reads a packet message.
func parsePackets(b []byte) (out []batch, err error) {
	for len(b) > 0 {
		n := int(b[0])
		var from netip.AddrPort
		if len(b) < 1+n+2 || from.UnmarshalBinary(b[1:1+n]) != nil {
			return nil, errBroken
		}
		b = b[1+n:]
		n = int(binary.BigEndian.Uint16(b))
		if len(b) < 2+n {
			return nil, errBroken
		}
		packet := b[2 : 2+n]
		b = b[2+n:]
		const most = 128 // that a bind takes at once
		if last := len(out) - 1; last >= 0 && out[last].from.AddrPort == from && len(out[last].packets) < most {
			out[last].packets = append(out[last].packets, packet)
			continue
		}
		out = append(out, batch{newEndpoint(from), [][]byte{packet}})
	}
	return out, nil
}

// sendFiles sends descriptors ahead of what is said next.
func sendFiles(c *net.UnixConn, files []int) error {
	_, _, err := c.WriteMsgUnix([]byte{sayState}, unix.UnixRights(files...), nil)
	return err
}

// receiveFiles is the other end of sendFiles.
func receiveFiles(c *net.UnixConn) ([]*os.File, error) {
	const most = 8
	b, oob := make([]byte, 1), make([]byte, unix.CmsgSpace(4*most))
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return nil, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "inherited"))
		}
	}
	if n != 1 || b[0] != sayState || len(files) == 0 {
		return files, errBroken
	}
	return files, nil
}

// short is a path to a file in a directory that fits into a socket's address,
// however long the directory's is; it is good until the file is closed.
func short(path string) (string, *os.File, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), dir, nil
}

// rawConn is whatever has a descriptor.
type rawConn interface {
	SyscallConn() (syscall.RawConn, error)
}

// duplicate makes another descriptor of the same open file.
func duplicate(c rawConn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	e := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(e, err)
}
