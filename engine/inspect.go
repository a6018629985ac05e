package engine

import (
	"encoding/json"
	"fmt"
	"strings"
)

// inspected is the part of a container's description that Docker and podman
// share, in the API of the one and on the command line of the other.
type inspected struct {
	ID    string `json:"Id"`
	Name  string
	State struct {
		Status  string
		Running bool
		Pid     int
	}
	HostConfig struct{ NetworkMode string }
}

// joinedPrefix begins the network mode of a container in another's network.
const joinedPrefix = "container:"

// decode reads one description.
func decode(engine string, b []byte) (Container, error) {
	var in inspected
	if err := json.Unmarshal(b, &in); err != nil {
		return Container{}, fmt.Errorf("read %s's description of a container: %w", engine, err)
	}
	if !reference().MatchString(in.ID) || in.State.Pid < 0 {
		return Container{}, fmt.Errorf("read %s's description of a container: id %q, process %d", engine, in.ID, in.State.Pid)
	}
	c := Container{Engine: engine, ID: in.ID, Name: strings.TrimPrefix(in.Name, "/"), State: in.State.Status, PID: in.State.Pid}
	if c.Name == "" {
		c.Name = c.ID
	}
	if joined, ok := strings.CutPrefix(in.HostConfig.NetworkMode, joinedPrefix); ok {
		c.Joined = joined
	}
	c.OnHost = in.HostConfig.NetworkMode == "host"
	return c, nil
}
