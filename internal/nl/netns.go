package nl

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	netlink "github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace. Holding it open keeps it alive.
type Namespace struct {
	file *os.File
	path string
}

// OpenNamespace opens the network namespace behind a path such as
// /run/netns/NAME or /proc/PID/ns/net. The error wraps ErrNotFound if there is
// nothing, and says so if it is something else.
func OpenNamespace(path string) (*Namespace, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, fmt.Errorf("there is no network namespace at %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", err)
	}
	// NS_GET_NSTYPE answers only on namespaces: a leftover plain file of
	// /run/netns, or any path given by mistake, is told apart here.
	kind, err := unix.IoctlRetInt(int(f.Fd()), unix.NS_GET_NSTYPE)
	if err != nil || kind != unix.CLONE_NEWNET {
		f.Close()
		return nil, fmt.Errorf("%s is not a network namespace: %w", path, ErrNotFound)
	}
	return &Namespace{file: f, path: path}, nil
}

// NewNamespace makes a network namespace that nothing refers to: it vanishes,
// with all that was made in it, at Close.
func NewNamespace() (*Namespace, error) {
	var fd netns.NsHandle
	err := onOwnThread(func() (err error) {
		fd, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("create network namespace: %w", err)
	}
	return &Namespace{file: os.NewFile(uintptr(fd), "netns"), path: "(unnamed)"}, nil
}

// Path is where the namespace was opened.
func (n *Namespace) Path() string { return n.path }

// ProcPath is a path by which this process can open the namespace again for as
// long as it holds it, also one that has no name.
func (n *Namespace) ProcPath() string { return fmt.Sprintf("/proc/self/fd/%d", n.file.Fd()) }

// Close lets go of the namespace.
func (n *Namespace) Close() error { return n.file.Close() }

// Do runs a function with its thread inside the namespace. The function must
// not start goroutines that rely on it.
func (n *Namespace) Do(fn func() error) error {
	return onOwnThread(func() error {
		if err := netns.Set(netns.NsHandle(n.file.Fd())); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.path, err)
		}
		return fn()
	})
}

// Cookie is the kernel's number for the namespace: the same by whatever path
// it was opened, and never used again until the machine restarts
// (SO_NETNS_COOKIE, Linux 5.14).
func (n *Namespace) Cookie() (uint64, error) {
	var cookie uint64
	s, err := netlink.GetNetlinkSocketAt(netns.NsHandle(n.file.Fd()), netns.None(), unix.NETLINK_ROUTE)
	if err == nil {
		defer s.Close()
		cookie, err = unix.GetsockoptUint64(s.GetFd(), unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	}
	if err != nil {
		return 0, fmt.Errorf("read cookie of network namespace %s: %w", n.path, err)
	}
	return cookie, nil
}

// onOwnThread runs a function on a thread that ends with it, so that a change
// of namespace can never leak to other goroutines, whatever goes wrong.
func onOwnThread(fn func() error) error {
	done := make(chan error, 1)
	go func() {
		defer close(done)      // also where fn ends its goroutine
		runtime.LockOSThread() // never unlocked: the runtime ends the thread
		done <- fn()
	}()
	return <-done
}
