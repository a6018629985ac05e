// Package engine asks container engines for their containers: what they are
// called, whether they run, and by which process their network namespace is
// found. It tells when containers begin and end. What is done with a namespace
// is left to others, and so is which container somebody means.
package engine

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync"
)

// Names of the engines.
const (
	Docker     = "docker"
	Podman     = "podman"
	Containerd = "containerd"
)

// SilentError tells that an engine cannot be asked now: it does not run, or it
// is not installed. It says nothing about containers.
type SilentError struct {
	Why string
	Err error // what is behind it, if anything
}

// Error says why, in one line.
func (e *SilentError) Error() string { return e.Why }

// Unwrap returns what is behind it.
func (e *SilentError) Unwrap() error { return e.Err }

// IsSilent tells whether an error is, or wraps, a SilentError.
func IsSilent(err error) bool {
	var silent *SilentError
	return errors.As(err, &silent)
}

func silent(err error, format string, args ...any) error {
	return &SilentError{fmt.Sprintf(format, args...), err}
}

// Container is what an engine says of a container.
type Container struct {
	Engine string
	ID     string // whole
	Name   string // as users give it; the id where there is none
	State  string // in the engine's words: created, running, exited, …
	PID    int    // of its first process; 0 if it does not run
	// Joined is the id of the container whose network it shares; "" if it has
	// one of its own.
	Joined string
	// OnHost tells that it was started on the host's own network.
	OnHost bool
}

// NetNS is the path of the network namespace of a container that runs.
func (c Container) NetNS() string { return fmt.Sprintf("/proc/%d/ns/net", c.PID) }

// Engine is one container engine of this host.
type Engine interface {
	// Name is one of the constants.
	Name() string
	// Find returns the containers that a reference means to this engine: a
	// name, an id, or the beginning of an id. The error is a
	// SilentError if the engine cannot be asked.
	Find(ctx context.Context, reference string) ([]Container, error)
	// Watch calls begun when it listens, and from then on changed with the id
	// of each container that begins, ends or is removed, until ctx ends or the
	// engine does.
	Watch(ctx context.Context, begun func(), changed func(id string)) error
	// KeepsStopped tells that a container that ends is found until it is removed.
	KeepsStopped() bool
}

// reference is what engines allow as names and ids. What does not match must
// not reach a URL, a path or a command line. It is large, so that it is compiled
// where it is needed: most processes of weft never need it.
var reference = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,254}$`) })
