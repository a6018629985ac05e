package daemon

import (
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/nl"
)

// netnsDir is where named network namespaces live.
const netnsDir = "/run/netns"

// container is a reference to a network namespace, resolved.
type container struct {
	reference string
	path      string
	ns        *nl.Namespace
	cookie    uint64
}

func (c *container) close() { c.ns.Close() }

// namespacePath says where a reference points: decimal digits are a process
// id, an absolute path stands for itself, anything else is a name.
func namespacePath(reference string) (string, error) {
	invalid := func(why string) error {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%q is no container: %s", reference, why),
			Fix: "give the name of a network namespace (see: ip netns), an absolute path, or a process id"}
	}
	switch {
	case reference == "":
		return "", invalid("it is empty")
	case filepath.IsAbs(reference):
		return filepath.Clean(reference), nil
	case strings.ContainsAny(reference, "/\x00") || reference == "." || reference == "..":
		return "", invalid("a path has to be absolute, and a name has no /")
	}
	if pid, err := strconv.Atoi(reference); err == nil {
		if pid <= 0 {
			return "", invalid("a process id is positive")
		}
		return fmt.Sprintf("/proc/%d/ns/net", pid), nil
	}
	return filepath.Join(netnsDir, reference), nil
}

// resolve opens the network namespace that a reference names. The host's own
// namespace is refused: plumbing it would cut the host from its own bridge.
func (d *Daemon) resolve(reference string) (*container, error) {
	path, err := namespacePath(reference)
	if err != nil {
		return nil, err
	}
	ns, err := nl.OpenNamespace(path)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("container %s: %s", reference, strings.TrimSuffix(err.Error(), ": "+nl.ErrNotFound.Error())),
			Fix: "give the name of a network namespace (see: ip netns), an absolute path, or a process id"}
	}
	if err != nil {
		return nil, err
	}
	cookie, err := ns.Cookie()
	if err != nil {
		ns.Close()
		return nil, err
	}
	if cookie == d.hostCookie {
		ns.Close()
		return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("container %s is in the host's own network namespace", reference),
			Fix: "start it with a network namespace of its own (docker run --network none), or use `weft expose` for the host itself"}
	}
	return &container{reference: reference, path: path, ns: ns, cookie: cookie}, nil
}

// isAlive tells whether the namespace of an attachment still is where it was.
func (a attachment) isAlive() bool {
	ns, err := nl.OpenNamespace(a.NetNS)
	if err != nil {
		return false
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	return err == nil && cookie == a.Cookie
}
