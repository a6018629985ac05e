package mesh

import (
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

// crowded is an inner transport that, as the real one, ends only when all
// that it has accepted is taken.
type crowded struct {
	*host
	streams  chan net.Conn
	accepted sync.WaitGroup
}

func (c *crowded) StreamCh() <-chan net.Conn { return c.streams }

func (c *crowded) accept(conn net.Conn) { c.accepted.Go(func() { c.streams <- conn }) }

func (c *crowded) Shutdown() error {
	c.accepted.Wait()
	return nil
}

func TestShutdownTakesWhatTheListenerHasAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &crowded{host: newNetwork(t, 1).Hosts[0], streams: make(chan net.Conn)}
		tr := newTransport(inner, func(c net.Conn) { c.Close() }, asKnown())
		tr.cancel() // the first thing that a shutdown does
		synctest.Wait()
		theirs, ours := net.Pipe()
		inner.accept(ours)
		if err := tr.Shutdown(); err != nil {
			t.Error(err)
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the stream was not closed: %v", err)
		}
	})
}

func TestStreamsAreSortedByTheirFirstBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		hellos := make(chan net.Conn, 1)
		tr := newTransport(w.Hosts[0], func(c net.Conn) { hellos <- c }, asKnown())
		tr.open()
		defer tr.Shutdown()
		open := func(say string) {
			c, err := w.Hosts[1].DialTimeout(w.Hosts[0].Addr.String(), time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, say); err != nil {
				t.Fatal(err)
			}
		}
		read := func(c net.Conn, n int) string {
			b := make([]byte, n)
			_, _ = io.ReadFull(c, b)
			return string(b)
		}
		open(magic + "frames")
		if got := read(<-hellos, 6); got != "frames" {
			t.Errorf("the hello is read as %q", got)
		}
		open("\xf4\x24label")
		if got := read(<-tr.StreamCh(), 7); got != "\xf4\x24label" {
			t.Errorf("memberlist gets %q", got)
		}
		open("WE")
		time.Sleep(2 * peekTime)
		select {
		case <-hellos:
			t.Error("half a word is a hello")
		case <-tr.StreamCh():
			t.Error("half a word is memberlist's")
		default:
		}
	})
}

func TestNothingReachesMemberlistBeforeItIsReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newNetwork(t, 2)
		tr := newTransport(w.Hosts[0], func(c net.Conn) { c.Close() }, asKnown())
		defer tr.Shutdown()
		if _, err := w.Hosts[1].WriteTo([]byte("packet"), w.Hosts[0].Addr.String()); err != nil {
			t.Fatal(err)
		}
		c, err := w.Hosts[1].DialTimeout(w.Hosts[0].Addr.String(), time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, "\xf4\x24label"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case <-tr.PacketCh():
			t.Error("a packet came before")
		case <-tr.StreamCh():
			t.Error("a stream came before")
		default:
		}
		tr.open()
		if p := <-tr.PacketCh(); string(p.Buf) != "packet" {
			t.Errorf("packet %q", p.Buf)
		}
		(<-tr.StreamCh()).Close()
	})
}

func asKnown() network {
	return network{
		route:   func(a memberlist.Address) route { return route{paths: []path{{WayDirect, a.Addr}}} },
		reached: newReached(), callers: newCallers(), news: func() {},
	}
}

func TestWhereAPeerIsReachedChangesNothingOfWhatItWasGiven(t *testing.T) {
	p := start(t, nil, Config{Token: newToken(t), Name: "p"})
	// Others read that without a lock, as soon as the socket is there.
	if p.Mesh.cfg.Advertise.IsValid() {
		t.Errorf("%s was written", p.Mesh.cfg.Advertise)
	}
	if !p.Advertise().IsValid() {
		t.Error("it does not know where it is reached")
	}
}
