package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// DefaultContainerdState is where containerd keeps what runs.
const DefaultContainerdState = "/run/containerd"

// Annotations by which others than containerd name its containers.
const (
	annotationSandbox   = "io.kubernetes.cri.sandbox-id"
	annotationContainer = "io.kubernetes.cri.container-name"
	annotationPod       = "io.kubernetes.cri.sandbox-name"
	annotationNerdctl   = "nerdctl/name"
)

// containerd is read by the bundles of what runs, which it lays down as its
// runtime interface says: a directory for each task, by namespace and id, with
// the OCI configuration and the first process.
type containerd struct{ tasks string }

// NewContainerd returns the containerd with a state directory.
func NewContainerd(state string) Engine {
	return &containerd{filepath.Join(state, "io.containerd.runtime.v2.task")}
}

func (c *containerd) Name() string       { return Containerd }
func (c *containerd) KeepsStopped() bool { return false }

// wholeID is the form of ids that are made, not chosen, and so may be shortened.
var wholeID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// minPrefix is how much of an id that is made has to be given.
const minPrefix = 6

// Find looks in all of containerd's namespaces, or in one: "k8s.io/ID".
func (c *containerd) Find(_ context.Context, ref string) ([]Container, error) {
	namespace, id, ok := strings.Cut(ref, "/")
	if !ok {
		namespace, id = "*", ref
	}
	if !reference().MatchString(id) || namespace != "*" && !reference().MatchString(namespace) {
		return nil, nil
	}
	if _, err := os.Stat(c.tasks); err != nil {
		return nil, silent(err, "containerd does not run: there is no %s", c.tasks)
	}
	exact, err := filepath.Glob(filepath.Join(c.tasks, namespace, id))
	if err != nil {
		return nil, fmt.Errorf("look for containerd's container %s: %w", ref, err)
	}
	if len(exact) == 0 && len(id) >= minPrefix {
		begins, err := filepath.Glob(filepath.Join(c.tasks, namespace, id+"*"))
		if err != nil {
			return nil, fmt.Errorf("look for containerd's containers %s…: %w", ref, err)
		}
		for _, dir := range begins {
			if wholeID.MatchString(filepath.Base(dir)) {
				exact = append(exact, dir)
			}
		}
	}
	var found []Container
	for _, dir := range exact {
		one, err := readBundle(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it ended this moment
		}
		if err != nil {
			return nil, err
		}
		found = append(found, one)
	}
	return found, nil
}

// readBundle reads the directory of one task.
func readBundle(dir string) (Container, error) {
	config, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return Container{}, fmt.Errorf("read the configuration of containerd's task: %w", err)
	}
	c, err := decodeBundle(filepath.Base(filepath.Dir(dir)), filepath.Base(dir), config)
	if err != nil {
		return c, err
	}
	pid, err := os.ReadFile(filepath.Join(dir, "init.pid"))
	if err != nil {
		return c, fmt.Errorf("read the process of containerd's task: %w", err)
	}
	if c.PID, err = strconv.Atoi(strings.TrimSpace(string(pid))); err != nil || c.PID <= 0 {
		return c, fmt.Errorf("read the process of containerd's task %s: %q", c.ID, pid)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", c.PID)); err != nil {
		c.PID, c.State = 0, "stopped"
	}
	return c, nil
}

// decodeBundle reads the OCI configuration of a task. Its id has containerd's
// namespace in it, as ids are unique only there.
func decodeBundle(namespace, id string, config []byte) (Container, error) {
	var spec struct {
		Annotations map[string]string
		Linux       *struct{ Namespaces []struct{ Type string } }
	}
	if err := json.Unmarshal(config, &spec); err != nil {
		return Container{}, fmt.Errorf("read the configuration of containerd's task %s/%s: %w", namespace, id, err)
	}
	c := Container{Engine: Containerd, ID: namespace + "/" + id, Name: id, State: "running", OnHost: true}
	for _, key := range []string{annotationNerdctl, annotationContainer, annotationPod} {
		if name := spec.Annotations[key]; reference().MatchString(name) {
			c.Name = name
			break
		}
	}
	if spec.Linux != nil {
		for _, n := range spec.Linux.Namespaces {
			if n.Type == "network" {
				c.OnHost = false
			}
		}
	}
	if sandbox := spec.Annotations[annotationSandbox]; sandbox != "" && sandbox != id && reference().MatchString(sandbox) {
		c.Joined = namespace + "/" + sandbox
	}
	return c, nil
}

// Watch tells nothing: containerd's events are not in its directory, and whoever
// waits for a task looks there again.
func (c *containerd) Watch(ctx context.Context, begun func(), _ func(id string)) error {
	begun()
	<-ctx.Done()
	return ctx.Err()
}
