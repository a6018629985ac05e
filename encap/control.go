package encap

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"
)

const (
	// controlTime bounds a call: the daemon must not hang because a process does.
	controlTime = 5 * time.Second
	// hungTime is for how long after a call had no answer in time a process may go on
	// with it: a hand-over may take as long.
	hungTime = 15 * time.Second
)

var errSilent = errors.New("userspace WireGuard does not answer; if that lasts it is started anew")

// control configures WireGuard devices, of the kernel or of a process, by the
// same calls, each of which ends within a time.
type control struct {
	client *wgctrl.Client
	turn   chan struct{} // holds one word while no call is under way
	// silent is when a call was found to have no answer in time; the zero value if the
	// last one had.
	silent   time.Time
	answered bool // some call was
}

func newControl(client *wgctrl.Client) *control {
	c := &control{client: client}
	c.forget()
	return c
}

// forget has the next call ask a process that has taken the place of a silent one.
func (c *control) forget() {
	c.turn, c.silent = make(chan struct{}, 1), time.Time{}
	c.turn <- struct{}{}
}

// hangs tells whether the process will not answer any more. One that has answered
// nobody here is given less time: a launch waits for it.
func (c *control) hangs() bool {
	most := hungTime
	if !c.answered {
		most = controlTime
	}
	return !c.silent.IsZero() && time.Since(c.silent) >= most
}

// device returns a device as it is.
func (c *control) device(name string) (dev *wgtypes.Device, err error) {
	return within(c, func() (*wgtypes.Device, error) { return c.client.Device(name) })
}

// configure changes what is set in the configuration.
func (c *control) configure(name string, cfg wgtypes.Config) error {
	_, err := within(c, func() (struct{}, error) { return struct{}{}, c.client.ConfigureDevice(name, cfg) })
	// Of a process's error number, the client tells only the text.
	if err != nil && strings.HasSuffix(err.Error(), fmt.Sprintf("errno=-%d", unix.EADDRINUSE)) {
		return unix.EADDRINUSE
	}
	return err
}

// renew has the kernel asked from now on, too: a client that was made before the
// kernel's WireGuard was loaded knows of processes only. It is for the caller's
// network namespace.
func (c *control) renew() error {
	client, err := wgctrl.New()
	if err != nil {
		return fmt.Errorf("open the control of WireGuard: %w", err)
	}
	_, err = within(c, func() (struct{}, error) {
		old := c.client
		c.client = client
		return struct{}{}, old.Close()
	})
	return err
}

func (c *control) close() error { return c.client.Close() }

// within makes a call. One that does not end in time keeps its turn until the
// process answers or ends, so that there is never more than one of them, and the calls
// that come meanwhile fail at once: a pass that looks after other transports, too, must
// not wait for that each time.
func within[T any](c *control, call func() (T, error)) (out T, err error) {
	late := time.NewTimer(controlTime)
	defer late.Stop()
	turn := c.turn
	if !c.silent.IsZero() && c.answered {
		select {
		case <-turn:
		default:
			return out, errSilent
		}
	} else {
		select {
		case <-turn:
		case <-late.C:
			return out, c.isLate()
		}
	}
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := call()
		turn <- struct{}{}
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		c.silent, c.answered = time.Time{}, true
		return r.out, r.err
	case <-late.C:
		return out, c.isLate()
	}
}

// isLate takes note of a call without an answer.
func (c *control) isLate() error {
	if c.silent.IsZero() {
		c.silent = time.Now()
	}
	return errSilent
}
