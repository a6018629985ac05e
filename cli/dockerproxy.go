package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"github.com/weft-net/weft/api"
)

// dockerProxy stands between the command line of Docker and Docker for one
// `docker run`. It changes what is created, and attaches what was started.
type dockerProxy struct {
	program string // this one, for the containers
	wishes  api.AttachRequest
	attach  func(api.AttachRequest) error
	docker  http.Client
	pass    *httputil.ReverseProxy
	server  http.Server
	done    chan struct{}
}

// maxCreate bounds what describes a container, in bytes.
const maxCreate = 16 << 20

// mountedProgram is where a container finds this program.
const mountedProgram = "/.weft"

var (
	createPath = regexp.MustCompile(`^(/v[0-9.]+)?/containers/create$`)
	startPath  = regexp.MustCompile(`^(/v[0-9.]+)?/containers/([^/]+)/start$`)
)

func newDockerProxy(socket, program string, wishes api.AttachRequest, attach func(api.AttachRequest) error) *dockerProxy {
	way := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}, DisableCompression: true}
	p := &dockerProxy{program: program, wishes: wishes, attach: attach, docker: http.Client{Transport: way}, done: make(chan struct{})}
	p.pass = &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "http", Host: "docker"}) },
		Transport:     way,
		FlushInterval: -1, // logs and events as they come
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			say(w, http.StatusBadGateway, fmt.Errorf("docker does not answer at %s: %w", socket, err))
		},
	}
	p.server.Handler = http.HandlerFunc(p.serve)
	return p
}

func (p *dockerProxy) listen(path string) error {
	l, err := net.Listen("unix", path)
	if err != nil {
		return fmt.Errorf("listen for Docker's command line: %w", err)
	}
	go func() { // owned by close
		defer close(p.done)
		_ = p.server.Serve(l) // it ends by close
	}()
	return nil
}

func (p *dockerProxy) close() {
	p.server.Close()
	<-p.done
}

func (p *dockerProxy) serve(w http.ResponseWriter, r *http.Request) {
	started := startPath.FindStringSubmatch(r.URL.Path)
	switch {
	case r.Method == http.MethodPost && createPath.MatchString(r.URL.Path):
		p.create(w, r)
	case r.Method == http.MethodPost && started != nil:
		p.start(w, r, started[1], started[2])
	default:
		p.pass.ServeHTTP(w, r)
	}
}

// say refuses in Docker's words.
func say(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// Who hung up does not want the rest.
	_ = json.NewEncoder(w).Encode(map[string]string{"message": "weft: " + err.Error()})
}

// create passes the creation of a container on, changed.
func (p *dockerProxy) create(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxCreate))
	if err != nil {
		say(w, http.StatusBadRequest, err)
		return
	}
	spec, err := parseCreate(body)
	if err != nil {
		say(w, http.StatusBadRequest, err)
		return
	}
	version := createPath.FindStringSubmatch(r.URL.Path)[1]
	image, err := p.image(r.Context(), version, spec.image())
	if err != nil {
		say(w, http.StatusInternalServerError, err)
		return
	}
	if image != nil { // else Docker says that there is none, and it is pulled
		if p.wishes.Interface, err = spec.wait(*image, p.program, p.wishes.Interface); err != nil {
			say(w, http.StatusBadRequest, err)
			return
		}
		if body, err = json.Marshal(spec.all); err != nil {
			say(w, http.StatusInternalServerError, err)
			return
		}
	}
	r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	r.Header.Set("Content-Length", strconv.Itoa(len(body)))
	p.pass.ServeHTTP(w, r)
}

// image asks for what an image starts; nil if Docker does not have it.
func (p *dockerProxy) image(ctx context.Context, version, name string) (*imageConfig, error) {
	var out struct{ Config imageConfig }
	code, err := p.ask(ctx, http.MethodGet, version+"/images/"+escapeImage(name)+"/json", &out)
	switch {
	case err != nil:
		return nil, fmt.Errorf("look at image %s: %w", name, err)
	case code == http.StatusNotFound:
		return nil, nil
	case code != http.StatusOK:
		return nil, fmt.Errorf("look at image %s: Docker answers %d", name, code)
	}
	return &out.Config, nil
}

// start passes a start on, and attaches the container when its first process,
// which waits for that, is there.
func (p *dockerProxy) start(w http.ResponseWriter, r *http.Request, version, id string) {
	code, err := p.ask(r.Context(), http.MethodPost, r.URL.RequestURI(), nil)
	var refused *dockerError
	switch {
	case errors.As(err, &refused):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_, _ = w.Write(refused.body) // who hung up does not want it
		return
	case err != nil:
		say(w, http.StatusBadGateway, err)
		return
	}
	req := p.wishes
	req.Container = engineDocker + ":" + id
	if err := p.attach(req); err != nil && p.waits(r.Context(), version, id) {
		_, stop := p.ask(context.WithoutCancel(r.Context()), http.MethodPost, version+"/containers/"+id+"/stop?t=0", nil)
		say(w, http.StatusInternalServerError, errors.Join(err, stop))
		return
	}
	w.WriteHeader(code)
}

// waits tells whether a container still waits to be attached. One that has ended
// was, and had little to do.
func (p *dockerProxy) waits(ctx context.Context, version, id string) bool {
	var out struct{ State struct{ Running bool } }
	code, err := p.ask(ctx, http.MethodGet, version+"/containers/"+id+"/json", &out)
	return err != nil || code == http.StatusOK && out.State.Running
}

// dockerError is what Docker says where it does not do what it is asked.
type dockerError struct{ body []byte }

func (e *dockerError) Error() string { return string(bytes.TrimSpace(e.body)) }

// ask makes one request of its own; an answer that refuses is a *dockerError,
// but for what is not found.
func (p *dockerProxy) ask(ctx context.Context, method, uri string, into any) (code int, err error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+uri, nil)
	if err != nil {
		return 0, fmt.Errorf("ask Docker: %w", err)
	}
	resp, err := p.docker.Do(req)
	var way *url.Error // names a URL, which means nothing to the user
	if errors.As(err, &way) {
		err = way.Err
	}
	if err != nil {
		return 0, fmt.Errorf("docker does not answer: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxCreate))
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask Docker: %w", err)
	case into != nil && resp.StatusCode == http.StatusOK:
		if err := json.Unmarshal(b, into); err != nil {
			return 0, fmt.Errorf("read Docker's answer: %w", err)
		}
	case slices.Contains([]int{http.StatusOK, http.StatusNoContent, http.StatusNotModified}, resp.StatusCode):
	case into != nil && resp.StatusCode == http.StatusNotFound:
	default:
		return resp.StatusCode, &dockerError{b}
	}
	return resp.StatusCode, nil
}
