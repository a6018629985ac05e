package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/engine"
	"github.com/weft-net/weft/internal/nl"
)

// netnsDir is where named network namespaces live.
const netnsDir = "/run/netns"

// Kinds of references besides the engines' names. Each is the prefix, with a
// colon, by which a reference says that it is of that kind.
const (
	kindNetns = "netns"
	kindPID   = "pid"
	kindPath  = "path" // needs no prefix
)

const (
	// askTime bounds a question to a container engine.
	askTime = 5 * time.Second
	// maxJoined bounds how far containers that share a network are followed.
	maxJoined = 8
)

// whatReferencesAre is the way out of a reference that means nothing.
const whatReferencesAre = "give the name or id of a container, the name of a network namespace (see: ip netns), an absolute path to one, or a process id"

// container is a network namespace that a reference means, and the container
// that it belongs to where an engine knows of one.
type container struct {
	reference string
	kind      string // an engine's name or one of the kinds
	path      string
	engine.Container
	ns     *nl.Namespace
	cookie uint64
}

func (c *container) close() { c.ns.Close() }

// owner names whose attachments are meant: it stays the same as long as the
// container exists, or else the namespace.
func (c *container) owner() string { return ownerName(c.Engine, c.ID, c.cookie) }

func ownerName(engine, id string, cookie uint64) string {
	if engine != "" {
		return engine + ":" + id
	}
	return fmt.Sprintf("netns:%016x", cookie)
}

// splitReference parts a reference in its kind, "" if it does not say, and the rest.
func splitReference(reference string) (kind, rest string, err error) {
	invalid := func(why string) error {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("%q is no container: %s", reference, why), Fix: whatReferencesAre}
	}
	kind, rest, ok := strings.Cut(reference, ":")
	kinds := []string{engine.Docker, engine.Podman, engine.Containerd, kindNetns, kindPID}
	switch {
	case reference == "":
		return "", "", invalid("it is empty")
	case filepath.IsAbs(reference):
		return kindPath, filepath.Clean(reference), nil
	case !ok || !slices.Contains(kinds, kind):
		kind, rest = "", reference
	case rest == "":
		return "", "", invalid("nothing follows the " + kind + ":")
	}
	if strings.ContainsAny(rest, "\x00") || strings.Contains(rest, "/") && kind != engine.Containerd || rest == "." || rest == ".." {
		return "", "", invalid("a path has to be absolute, and a name has no /")
	}
	if n, err := strconv.Atoi(rest); err == nil && n <= 0 || kind == kindPID && err != nil {
		return "", "", invalid("a process id is a positive number")
	}
	return kind, rest, nil
}

// resolve finds the network namespace that a reference means, and opens it. One
// that means several is refused, and so is the host's own namespace: plumbing it
// would cut the host from its own bridge.
func (d *Daemon) resolve(ctx context.Context, reference string) (*container, error) {
	kind, rest, err := splitReference(reference)
	if err != nil {
		return nil, err
	}
	found, silent, err := d.candidates(ctx, kind, rest)
	if err != nil {
		return nil, err
	}
	var open []*container
	var missing, stopped error
	for _, c := range found {
		c.reference = reference
		err := d.open(ctx, c)
		switch {
		case errors.Is(err, nl.ErrNotFound):
			if missing == nil {
				missing = &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("container %s: %s", reference, strings.TrimSuffix(err.Error(), ": "+nl.ErrNotFound.Error())), Fix: whatReferencesAre}
			}
		case errors.As(err, new(*api.Error)): // it cannot be attached; what is meant may be unclear all the same
			stopped, open = err, append(open, c)
		case err != nil:
			closeAll(open)
			return nil, err
		case !slices.ContainsFunc(open, func(o *container) bool { return o.ns != nil && o.cookie == c.cookie }):
			open = append(open, c)
		default:
			c.close() // another name of one that is there already
		}
	}
	switch {
	case len(open) == 1 && open[0].ns != nil:
		return open[0], d.refuseHost(open[0])
	case len(open) > 1:
		defer closeAll(open)
		return nil, ambiguous(rest, open)
	case stopped != nil:
		return nil, stopped
	case missing != nil:
		return nil, missing
	}
	e := &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("there is no container %s: no network namespace at %s", reference, filepath.Join(netnsDir, rest)), Fix: whatReferencesAre}
	if slices.Contains([]string{engine.Docker, engine.Podman, engine.Containerd}, kind) {
		e.Message, e.Fix = fmt.Sprintf("%s has no container %s", kind, rest), "`weft attach --help` says how containers are named"
	}
	if len(silent) > 0 {
		e.Message += "; " + oneLine(errors.Join(silent...))
	}
	return nil, e
}

// requested is what an attach is about: the namespace of its reference, or the
// one that an engine says is its container's.
func (d *Daemon) requested(ctx context.Context, req api.AttachRequest) (*container, error) {
	if req.Engine == "" {
		return d.resolve(ctx, req.Container)
	}
	if d.engineOf(req.Engine) == nil || req.ID == "" || !filepath.IsAbs(req.Container) {
		return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("container %q of engine %q at %q: that takes a known engine, an id and a path", req.ID, req.Engine, req.Container)}
	}
	c, err := d.resolve(ctx, req.Container)
	if err != nil {
		return nil, err
	}
	c.reference, c.kind = cmp.Or(req.Name, req.ID), req.Engine
	c.Container = engine.Container{Engine: req.Engine, ID: req.ID, Name: c.reference}
	return c, nil
}

func closeAll(list []*container) {
	for _, c := range list {
		if c.ns != nil {
			c.close()
		}
	}
}

// refuseHost closes and refuses the host's own namespace.
func (d *Daemon) refuseHost(c *container) error {
	if c.cookie != d.hostCookie {
		return nil
	}
	c.close()
	return onHost(c.reference)
}

func onHost(reference string) error {
	return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("container %s is in the host's own network namespace", reference),
		Fix: "start it with a network namespace of its own (docker run --network none), or use `weft expose` for the host itself"}
}

func ambiguous(reference string, among []*container) error {
	var names []string
	for _, c := range among {
		name := c.kind + ":" + reference
		if c.Engine == engine.Containerd {
			name = c.kind + ":" + c.ID
		}
		names = append(names, name)
	}
	return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("%s means several containers: %s", reference, strings.Join(names, ", ")),
		Fix: "say which by its prefix, as in `weft attach " + names[0] + "`"}
}

// candidates are all that a reference can mean, engines' containers first.
// Engines that cannot be asked are silent; that is an error where the reference
// names the engine.
func (d *Daemon) candidates(ctx context.Context, kind, rest string) (found []*container, silent []error, err error) {
	switch kind {
	case kindPath:
		return []*container{{kind: kind, path: rest}}, nil, nil
	case kindPID:
		return []*container{{kind: kind, path: "/proc/" + rest + "/ns/net"}}, nil, nil
	case kindNetns:
		return []*container{{kind: kind, path: filepath.Join(netnsDir, rest)}}, nil, nil
	}
	answers := make([]struct {
		list []engine.Container
		err  error
	}, len(d.engines))
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var wg sync.WaitGroup
	for i, e := range d.engines {
		if kind == "" || kind == e.Name() {
			wg.Go(func() { answers[i].list, answers[i].err = e.Find(ctx, rest) })
		}
	}
	wg.Wait()
	for _, a := range answers {
		switch {
		case a.err != nil && (kind != "" || !engine.IsSilent(a.err)):
			return nil, nil, &api.Error{Code: api.CodeFailed, Message: oneLine(a.err), Fix: "start the container's engine, or name the container's process or its network namespace"}
		case a.err != nil:
			silent = append(silent, a.err)
		}
		for _, c := range a.list {
			found = append(found, &container{kind: c.Engine, Container: c})
		}
	}
	if kind != "" {
		return found, silent, nil
	}
	if path := filepath.Join(netnsDir, rest); exists(path) {
		found = append(found, &container{kind: kindNetns, path: path})
	}
	if _, err := strconv.Atoi(rest); err == nil && exists("/proc/"+rest) {
		found = append(found, &container{kind: kindPID, path: "/proc/" + rest + "/ns/net"})
	}
	return found, silent, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// open goes from a container to the one whose network it shares, if it does, and
// opens the namespace. The error wraps nl.ErrNotFound if there is none.
func (d *Daemon) open(ctx context.Context, c *container) (err error) {
	if c.Engine != "" {
		if c.Container, err = d.networkOf(ctx, c.Container); err != nil {
			return err
		}
		switch {
		case c.OnHost:
			return onHost(c.reference)
		case c.PID == 0:
			return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("container %s of %s does not run: it is %s", c.Name, c.Engine, c.State),
				Fix: "start it first; one that was attached before is put back by itself as it starts"}
		}
		c.path = c.Container.NetNS()
	}
	if c.ns, err = nl.OpenNamespace(c.path); err != nil {
		return err
	}
	if c.cookie, err = c.ns.Cookie(); err != nil {
		c.close()
		c.ns = nil
	}
	return err
}

// networkOf is the container whose network a container has: itself, mostly.
func (d *Daemon) networkOf(ctx context.Context, c engine.Container) (engine.Container, error) {
	for range maxJoined {
		if c.Joined == "" {
			return c, nil
		}
		found, err := d.engineOf(c.Engine).Find(ctx, c.Joined)
		if err == nil && len(found) != 1 {
			err = fmt.Errorf("%s does not know it", c.Engine)
		}
		if err != nil {
			return c, fmt.Errorf("container %s shares the network of container %s: %w", c.Name, c.Joined, err)
		}
		c = found[0]
	}
	return c, fmt.Errorf("container %s shares a network that others share, more than %d times", c.Name, maxJoined)
}

// engineOf is the engine of that name.
func (d *Daemon) engineOf(name string) engine.Engine {
	i := slices.IndexFunc(d.engines, func(e engine.Engine) bool { return e.Name() == name })
	if i < 0 {
		return nil
	}
	return d.engines[i]
}
