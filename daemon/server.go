package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/api"
)

const (
	maxRequest     = 1 << 20 // bytes of a request's body
	defaultTimeout = 30 * time.Second
)

// server answers on the control socket.
type server struct {
	http *http.Server
	path string
	done chan struct{}
}

// listen opens the control socket. A file that a killed daemon left is taken
// over; the store's lock makes sure that no living one uses it.
func (d *Daemon) listen() (*server, error) {
	path := d.opts.Socket
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the socket's directory: %w", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("another daemon answers on %s", path), Fix: "give this one another --socket"}
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	if err := protect(path, d.opts.SocketGroup); err != nil {
		l.Close()
		return nil, err
	}
	srv := &server{path: path, done: make(chan struct{}), http: &http.Server{
		Handler:           d.routes(),
		ReadHeaderTimeout: 5 * time.Second,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, callerKey{}, caller(c))
		},
	}}
	go func() { // owned by srv.close
		defer close(srv.done)
		if err := srv.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			d.log.Error("control socket", "err", err)
		}
	}()
	return srv, nil
}

// protect lets only root and the members of the group, where it exists, in.
func protect(path, group string) error {
	mode, gid := os.FileMode(0o600), 0
	if g, err := user.LookupGroup(group); err == nil {
		if gid, err = strconv.Atoi(g.Gid); err != nil {
			return fmt.Errorf("group %s: %w", group, err)
		}
		mode = 0o660
	}
	if err := os.Chown(path, 0, gid); err != nil {
		return fmt.Errorf("give socket to group %s: %w", group, err)
	}
	if err := os.Chmod(path, mode); err != nil {
		return fmt.Errorf("protect socket: %w", err)
	}
	return nil
}

// close lets running requests end, for a moment, and removes the socket.
func (s *server) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
	<-s.done
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove socket: %w", err)
	}
	return nil
}

type callerKey struct{}

// caller is who is at the other end of the socket, as the kernel says.
func caller(c net.Conn) *unix.Ucred {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return nil
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return nil
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return nil
	}
	return cred
}

func (d *Daemon) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.PathStatus, answer(d, func(context.Context, struct{}) (api.Status, error) { return d.Status(), nil }))
	mux.HandleFunc("GET "+api.PathAttachments, answer(d, func(context.Context, struct{}) ([]api.Attachment, error) { return d.Attachments(), nil }))
	mux.HandleFunc("GET "+api.PathVersion, answer(d, func(context.Context, struct{}) (api.Version, error) { return Version(), nil }))
	mux.HandleFunc("GET "+api.PathToken, answer(d, func(context.Context, struct{}) (api.Token, error) { return d.showToken(), nil }))
	mux.HandleFunc("POST "+api.PathRotateToken, answer(d, d.RotateToken))
	mux.HandleFunc("POST "+api.PathRotateKeys, answer(d, func(ctx context.Context, _ struct{}) (api.KeysReport, error) { return d.RotateKeys(ctx) }))
	mux.HandleFunc("POST "+api.PathAttach, answer(d, d.Attach))
	mux.HandleFunc("POST "+api.PathDetach, answer(d, d.Detach))
	mux.HandleFunc("POST "+api.PathInspect, answer(d, d.Inspect))
	mux.HandleFunc("POST "+api.PathCollect, answer(d, d.Collect))
	mux.HandleFunc("POST "+api.PathCNI, answer(d, d.CNI))
	mux.HandleFunc("POST "+api.PathExpose, answer(d, d.Expose))
	mux.HandleFunc("POST "+api.PathHide, answer(d, func(_ context.Context, r api.ExposeRequest) (api.Exposure, error) { return d.Hide(r) }))
	mux.HandleFunc("POST "+api.PathPublish, answer(d, d.Publish))
	mux.HandleFunc("POST "+api.PathUnpublish, answer(d, d.Unpublish))
	mux.HandleFunc("POST "+api.PathRemove, answer(d, d.RemovePeer))
	mux.HandleFunc("POST "+api.PathConnect, answer(d, d.Connect))
	mux.HandleFunc("POST "+api.PathForget, answer(d, func(_ context.Context, r api.ConnectRequest) ([]api.Target, error) { return d.Forget(r) }))
	mux.HandleFunc("POST "+api.PathPrime, answer(d, func(ctx context.Context, _ struct{}) (api.IPAM, error) { return d.Prime(ctx) }))
	mux.HandleFunc("POST "+api.PathStop, answerLast(d, func(_ context.Context, r api.StopRequest) (struct{}, error) { return struct{}{}, d.Stop(r) }))
	mux.HandleFunc("POST "+api.PathReset, answerLast(d, d.Reset))
	return mux
}

// answer turns a function of the daemon into a request's handler.
func answer[In, Out any](d *Daemon, fn func(context.Context, In) (Out, error)) http.HandlerFunc {
	return handler(d, fn, func(w http.ResponseWriter, out any) { reply(w, http.StatusOK, out) })
}

// answerLast is answer for a function that ends the daemon: the answer is
// complete when the process is gone, and its ports and its lock are free.
func answerLast[In, Out any](d *Daemon, fn func(context.Context, In) (Out, error)) http.HandlerFunc {
	h := handler(d, fn, d.lastWord)
	return func(w http.ResponseWriter, r *http.Request) {
		d.speaking.Add(1) // a connection that was taken over is not waited for by the server
		defer d.speaking.Done()
		h(w, r)
	}
}

// lastWord answers on a connection that only the end of the process closes.
func (d *Daemon) lastWord(w http.ResponseWriter, out any) {
	conn, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		reply(w, http.StatusOK, out)
		return
	}
	d.lastConns.Store(conn, true) // or it would be closed once nothing refers to it
	fmt.Fprint(buf, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n")
	if json.NewEncoder(buf).Encode(out) != nil || buf.Flush() != nil {
		conn.Close() // the caller hung up
	}
}

func handler[In, Out any](d *Daemon, fn func(context.Context, In) (Out, error), finish func(http.ResponseWriter, any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cred, _ := r.Context().Value(callerKey{}).(*unix.Ucred)
		if cred == nil {
			reply(w, http.StatusForbidden, &api.Error{Code: api.CodeForbidden, Message: "the kernel does not say who is calling"})
			return
		}
		if r.Method != http.MethodGet {
			d.log.Debug("request", "path", r.URL.Path, "uid", cred.Uid, "pid", cred.Pid)
		}
		ctx, cancel := context.WithTimeout(r.Context(), requestTimeout(r))
		defer cancel()
		var in In
		if r.Method == http.MethodPost {
			dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest))
			dec.DisallowUnknownFields()
			if err := dec.Decode(&in); err != nil && !errors.Is(err, io.EOF) {
				reply(w, http.StatusBadRequest, &api.Error{Code: api.CodeInvalid, Message: "the request cannot be read: " + err.Error()})
				return
			}
		}
		out, err := fn(ctx, in)
		if err != nil {
			e := asAPIError(ctx, err)
			reply(w, httpStatus[e.Code], e)
			return
		}
		finish(w, out)
	}
}

// requestTimeout is what the caller allows, less the way back, so that it gets
// an answer that says what was waited for.
func requestTimeout(r *http.Request) time.Duration {
	t, err := time.ParseDuration(r.Header.Get(api.HeaderTimeout))
	if err != nil || t <= 0 {
		return defaultTimeout
	}
	return t
}

var httpStatus = map[api.Code]int{
	api.CodeInvalid: http.StatusBadRequest, api.CodeNotFound: http.StatusNotFound, api.CodeConflict: http.StatusConflict,
	api.CodeExhausted: http.StatusInsufficientStorage, api.CodeTimeout: http.StatusGatewayTimeout,
	api.CodeForbidden: http.StatusForbidden, api.CodeFailed: http.StatusInternalServerError,
	api.CodeUnavailable: http.StatusServiceUnavailable,
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// A caller that hung up does not want the rest.
	_ = json.NewEncoder(w).Encode(v)
}
