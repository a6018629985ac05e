package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"syscall"
)

// DefaultDockerSocket is where dockerd listens.
const DefaultDockerSocket = "/run/docker.sock"

// maxDescription bounds a description of a container, in bytes.
const maxDescription = 8 << 20

// docker speaks Docker's API on its socket, as it is since version 1.24.
type docker struct {
	socket string
	http   http.Client
}

// NewDocker returns the Docker behind a socket; nothing is dialled yet.
func NewDocker(socket string) Engine {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &docker{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

func (d *docker) Name() string       { return Docker }
func (d *docker) KeepsStopped() bool { return true }

// get asks for a path. Its caller closes the body.
func (d *docker) get(ctx context.Context, path string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ask Docker: %w", err)
	}
	resp, err := d.http.Do(req)
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, silent(err, "docker does not run: nothing answers at %s", d.socket)
	}
	if err != nil {
		return nil, silent(err, "docker does not answer at %s: %v", d.socket, err)
	}
	return resp, nil
}

// refusal is what Docker says where it does not do what it is asked.
func refusal(resp *http.Response) error {
	var why struct{ Message string }
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if json.Unmarshal(b, &why) != nil || why.Message == "" {
		why.Message = resp.Status
	}
	return fmt.Errorf("ask Docker: %s", why.Message)
}

// Find asks for the one container that Docker means by a reference.
func (d *docker) Find(ctx context.Context, ref string) ([]Container, error) {
	if !reference().MatchString(ref) {
		return nil, nil
	}
	resp, err := d.get(ctx, "/containers/"+url.PathEscape(ref)+"/json")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return nil, nil
	case resp.StatusCode != http.StatusOK:
		return nil, refusal(resp)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDescription))
	if err != nil {
		return nil, silent(err, "docker does not answer at %s: %v", d.socket, err)
	}
	c, err := decode(Docker, b)
	if err != nil {
		return nil, err
	}
	return []Container{c}, nil
}

// Watch follows Docker's events.
func (d *docker) Watch(ctx context.Context, begun func(), changed func(id string)) error {
	filters := url.QueryEscape(`{"type":["container"],"event":["start","die","destroy","rename"]}`)
	resp, err := d.get(ctx, "/events?filters="+filters)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refusal(resp)
	}
	begun()
	return follow(Docker, resp.Body, changed)
}

// follow reads events until there are no more.
func follow(engine string, from io.Reader, changed func(id string)) error {
	for dec := json.NewDecoder(from); ; {
		var event struct {
			ID    string `json:"ID"` // matches podman's ID and Docker's id
			Actor struct{ ID string }
		}
		if err := dec.Decode(&event); err != nil {
			return silent(err, "%s tells nothing any more: %v", engine, err)
		}
		if event.ID == "" {
			event.ID = event.Actor.ID
		}
		changed(event.ID)
	}
}
