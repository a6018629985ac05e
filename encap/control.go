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

// controlTime bounds a call: the daemon must not hang because a process does.
const controlTime = 5 * time.Second

var errSilent = errors.New("userspace WireGuard does not answer: `weft stop --all` and `weft launch` start it anew")

// control configures WireGuard devices, of the kernel or of a process, by the
// same calls, each of which ends within a time.
type control struct {
	client *wgctrl.Client
	turn   chan struct{} // holds one word while no call is under way
}

func newControl(client *wgctrl.Client) *control {
	c := &control{client: client, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
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
// process answers or ends, so that there is never more than one of them.
func within[T any](c *control, call func() (T, error)) (out T, err error) {
	late := time.NewTimer(controlTime)
	defer late.Stop()
	select {
	case <-c.turn:
	case <-late.C:
		return out, errSilent
	}
	type result struct {
		out T
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := call()
		c.turn <- struct{}{}
		done <- result{out, err}
	}()
	select {
	case r := <-done:
		return r.out, r.err
	case <-late.C:
		return out, errSilent
	}
}
