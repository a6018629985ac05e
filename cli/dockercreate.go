package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// createSpec is what a container is created from, with all that is not
// understood here left as it is.
type createSpec struct {
	all  map[string]any
	host map[string]any // its HostConfig
}

// imageConfig is what an image starts by itself.
type imageConfig struct{ Entrypoint, Cmd []string }

// parseCreate reads the body of a creation.
func parseCreate(body []byte) (createSpec, error) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber() // no number may change on its way
	var s createSpec
	if err := dec.Decode(&s.all); err != nil || s.all == nil {
		return s, fmt.Errorf("read what is to be created: %w", errors.Join(err, errors.New("it is no object")))
	}
	var ok bool
	if s.host, ok = s.all["HostConfig"].(map[string]any); !ok {
		s.host = map[string]any{}
		s.all["HostConfig"] = s.host
	}
	return s, nil
}

func (s createSpec) image() string {
	name, _ := s.all["Image"].(string)
	return name
}

// words reads a list of strings.
func (s createSpec) words(key string) (out []string) {
	list, _ := s.all[key].([]any)
	for _, w := range list {
		if word, ok := w.(string); ok {
			out = append(out, word)
		}
	}
	return out
}

// wait makes the container wait for an interface of that name, "" for the one
// that is free, before it starts what it would have started. It returns the name.
func (s createSpec) wait(image imageConfig, program, ifname string) (string, error) {
	mode, _ := s.host["NetworkMode"].(string)
	free := "eth1"
	switch {
	case mode == "" || mode == "default" || mode == "none":
		s.host["NetworkMode"] = "none"
		s.all["NetworkingConfig"] = map[string]any{}
		free = "eth0"
	case mode == "host" || strings.HasPrefix(mode, "container:"):
		return "", fmt.Errorf("a container with --network %s has no network of its own to be attached", mode)
	}
	if ifname == "" {
		ifname = free
	}
	// As Docker merges the two: the image's arguments go with the image's entry
	// point, and a lone "" stands for none at all.
	entry, args := s.words("Entrypoint"), s.words("Cmd")
	if len(entry) == 0 {
		entry = image.Entrypoint
		if len(args) == 0 {
			args = image.Cmd
		}
	} else if entry[0] == "" {
		entry = nil
	}
	if len(entry)+len(args) == 0 {
		return ifname, nil // Docker says that there is nothing to start
	}
	s.all["Entrypoint"] = append([]string{mountedProgram, "await", ifname}, entry...)
	s.all["Cmd"] = args
	binds, _ := s.host["Binds"].([]any)
	s.host["Binds"] = append(binds, program+":"+mountedProgram+":ro")
	return ifname, nil
}

// escapeImage is an image's name as a part of a path: its slashes are Docker's.
func escapeImage(name string) string {
	return strings.ReplaceAll(url.PathEscape(name), "%2F", "/")
}
