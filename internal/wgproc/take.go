package wgproc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Times of a hand-over.
const (
	answerTime = 5 * time.Second // for the carrier to do as it is asked
	// tellTime is how long the carrier may take to tell what it has, which is long
	// where it is busy with a thousand peers: nothing has moved yet.
	tellTime = 20 * time.Second
	// settleTime is what handshakes that the carrier has under way get to end:
	// more than a way there and back.
	settleTime = 500 * time.Millisecond
	// quietTime is how long nothing for the carrier's sessions must have come
	// until it may end, and lingerTime how long it stays if something does.
	quietTime  = time.Second
	lingerTime = 10 * time.Second
	step       = 20 * time.Millisecond
)

// carrierProcess is the process that is succeeded, as its successor sees it.
type carrierProcess struct {
	conn  *net.UnixConn
	pidfd int           // -1 if it is in another container
	mu    sync.Mutex    // of writing
	done  chan struct{} // a word for each thing done
	gone  chan struct{} // closed when it has ended, or keeps to nothing
}

// succeed connects to the carrier of a device.
func succeed(dir, device string) (*carrierProcess, error) {
	path, d, err := short(handPath(dir, device))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("connect to the process that is to be succeeded: %w", err)
	}
	fd, err := pidfdOf(conn)
	if err != nil {
		return nil, fmt.Errorf("open the process that is to be succeeded: %w", err)
	}
	return &carrierProcess{conn: conn, pidfd: fd, done: make(chan struct{}, 1), gone: make(chan struct{})}, nil
}

// pidfdOf is a descriptor of the process at the other end, -1 if that is in another
// container.
func pidfdOf(conn *net.UnixConn) (fd int, err error) {
	cred, err := peerOf(conn)
	if err != nil || cred.Pid == 0 {
		return -1, err
	}
	return unix.PidfdOpen(int(cred.Pid), 0)
}

// inherit gets descriptors and state, and makes everything that the process
// needs of them; nothing is read or answered yet.
func (old *carrierProcess) inherit(c Config, log *slog.Logger) (p *process, s state, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("inherit from the process that is to be succeeded: %w", err)
		}
	}()
	_ = old.conn.SetReadDeadline(time.Now().Add(tellTime))
	if err := sayJSON(old.conn, sayHello, hello{handVersion}); err != nil {
		return nil, s, err
	}
	files, err := receiveFiles(old.conn)
	if err != nil {
		return nil, s, err
	}
	content, err := expect(old.conn, sayState)
	if err == nil {
		err = json.Unmarshal(content, &s)
	}
	if err != nil {
		return nil, s, err
	}
	const others = 2
	if len(files) != others+s.Sockets {
		return nil, s, errBroken
	}
	// The device keeps its descriptor; of the others there are copies.
	for _, f := range files[1:] {
		defer f.Close()
	}
	tunnel, err := inheritTUN(files[0], s.MTU)
	if err != nil {
		return nil, s, err
	}
	control, err := inheritControl(files[1])
	if err != nil {
		return nil, s, errors.Join(err, tunnel.Close())
	}
	var socks []*socket
	for _, f := range files[others:] {
		sock, err := inheritUDP(f)
		if err != nil {
			return nil, s, errors.Join(err, tunnel.Close())
		}
		socks = append(socks, sock)
	}
	p = newProcess(c, log, tunnel, newBind(socks))
	p.control = control
	_ = old.conn.SetReadDeadline(time.Time{})
	go old.listen() // ends with the connection
	return p, s, nil
}

func (old *carrierProcess) listen() {
	defer close(old.gone)
	for {
		if _, err := expect(old.conn, sayDone); err != nil {
			return
		}
		old.done <- struct{}{}
	}
}

// ask has the carrier do something, or end: whatever comes after may rely on it.
func (old *carrierProcess) ask(kind byte) {
	err := old.say(kind, nil)
	if err == nil {
		select {
		case <-old.done:
			return
		case <-old.gone:
		case <-time.After(answerTime):
		}
	}
	old.end()
}

func (old *carrierProcess) say(kind byte, content []byte) error {
	old.mu.Lock()
	defer old.mu.Unlock()
	return say(old.conn, kind, content)
}

// end has it end, by force if it takes too long.
func (old *carrierProcess) end() {
	_ = old.say(sayEnd, nil)
	if old.pidfd < 0 {
		select { // it closes the connection, and then lets go of the lock
		case <-old.gone:
		case <-time.After(answerTime):
		}
		return
	}
	if gone, err := waitFor(old.pidfd, answerTime); err == nil && gone {
		return
	}
	_ = unix.PidfdSendSignal(old.pidfd, unix.SIGKILL, nil, 0)
	_, _ = waitFor(old.pidfd, answerTime)
}

func (old *carrierProcess) close() {
	old.conn.Close()
	if old.pidfd >= 0 {
		unix.Close(old.pidfd)
	}
}

// pause waits, but for nothing if the carrier is gone.
func (old *carrierProcess) pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-old.gone:
	case <-time.After(d):
	}
	return nil
}

func (old *carrierProcess) isGone() bool {
	select {
	case <-old.gone:
		return true
	default:
		return false
	}
}

// takeOver is the successor's side of a hand-over. Each step is right whether or
// not the carrier is there still; if it is not, they follow at once.
func (p *process) takeOver(ctx context.Context, old *carrierProcess, s state) error {
	settable, self, peers := readConfig(s.Config)
	if err := p.dev.IpcSet(settable); err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := p.dev.Up(); err != nil {
		return fmt.Errorf("start WireGuard on %s: %w", p.Device, err)
	}
	start := time.Now()
	h := newHeir(func(packets []byte) { _ = old.say(sayPacket, packets) })
	var duty inspector = h
	p.bind.inspect.Store(&duty)
	defer p.bind.inspect.Store(nil)
	old.ask(sayReadUDP)
	p.bind.start()
	if err := old.pause(ctx, settleTime); err != nil {
		return err
	}
	h.mayBegin.Store(true)
	ready, alive, err := p.beginSessions(ctx, old, self, peers)
	if err != nil {
		return err
	}
	old.ask(sayReadTUN)
	p.tun.start()
	own := time.Now()
	for h.quietFor(own) < quietTime && time.Since(own) < lingerTime && !old.isGone() {
		if err := old.pause(ctx, step); err != nil {
			return err
		}
	}
	byItself := old.isGone()
	old.end()
	p.log.Info("took over from a process of another version", "device", p.Device, "peers", len(peers), "sessions", ready, "of", alive,
		"passed on", h.count.Load(), "after", time.Since(start).Round(time.Millisecond), "the other had ended by itself", byItself)
	return nil
}

// removeHand removes the socket by which a successor is served.
func removeHand(dir, device string) { _ = os.Remove(handPath(dir, device)) }
