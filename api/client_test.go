package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve answers on a socket in a directory of the test.
func serve(t *testing.T, handler http.HandlerFunc) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return NewClient(path)
}

// isError checks that an error is an *Error of that code which says so.
func isError(t *testing.T, err error, code Code, says string) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), says) {
		t.Errorf("got %#v (%v); want an *Error of code %s that says %q", err, err, code, says)
	}
}

func TestEachMethodAsksForItsPath(t *testing.T) {
	addr := netip.MustParseAddr("10.32.0.7")
	for want, ask := range map[string]func(context.Context, *Client) error{
		"GET /v1/status ":      func(ctx context.Context, c *Client) error { _, err := c.Status(ctx); return err },
		"GET /v1/attachments ": func(ctx context.Context, c *Client) error { _, err := c.Attachments(ctx); return err },
		"GET /v1/token ":       func(ctx context.Context, c *Client) error { _, err := c.Token(ctx); return err },
		"GET /v1/version ":     func(ctx context.Context, c *Client) error { _, err := c.Version(ctx); return err },
		"POST /v1/stop {}":     func(ctx context.Context, c *Client) error { return c.Stop(ctx, StopRequest{}) },
		`POST /v1/reset {"force":true}`: func(ctx context.Context, c *Client) error {
			_, err := c.Reset(ctx, ResetRequest{Force: true})
			return err
		},
		`POST /v1/expose {}`: func(ctx context.Context, c *Client) error { _, err := c.Expose(ctx, ExposeRequest{}); return err },
		`POST /v1/hide {"address":"10.32.0.7"}`: func(ctx context.Context, c *Client) error {
			_, err := c.Hide(ctx, ExposeRequest{Address: addr})
			return err
		},
		`POST /v1/attach {"container":"c"}`: func(ctx context.Context, c *Client) error {
			_, err := c.Attach(ctx, AttachRequest{Container: "c"})
			return err
		},
		`POST /v1/detach {"container":"c","address":"10.32.0.7"}`: func(ctx context.Context, c *Client) error {
			_, err := c.Detach(ctx, DetachRequest{Container: "c", Address: addr})
			return err
		},
	} {
		asked := make(chan string, 1)
		c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			asked <- fmt.Sprintf("%s %s %s", r.Method, r.URL.Path, b)
			if r.URL.Path == PathAttachments || r.URL.Path == PathDetach {
				fmt.Fprint(w, "[]")
				return
			}
			fmt.Fprint(w, "{}")
		})
		if err := ask(t.Context(), c); err != nil {
			t.Errorf("%s: %v", want, err)
		} else if got := <-asked; got != want {
			t.Errorf("asked %q; want %q", got, want)
		}
	}
}

func TestErrorsCrossTheSocketWhole(t *testing.T) {
	sent := &Error{Code: CodeExhausted, Message: "no free address", Fix: "detach one"}
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInsufficientStorage)
		_ = json.NewEncoder(w).Encode(sent)
	})
	_, err := c.Attach(t.Context(), AttachRequest{Container: "c"})
	var got *Error
	if !errors.As(err, &got) || *got != *sent {
		t.Errorf("got %#v; want %#v", err, sent)
	}
}

func TestAnswersThatMakeNoSenseAreErrorsThatNameTheVersion(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"not JSON":           func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"another shape":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"address":7}`) },
		"error in text":      http.NotFound,
		"error without code": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500); fmt.Fprint(w, "{}") },
	} {
		t.Run(name, func(t *testing.T) {
			_, err := serve(t, handler).Attach(t.Context(), AttachRequest{})
			isError(t, err, CodeFailed, "weft version")
		})
	}
}

func TestNoDaemonIsUnavailable(t *testing.T) {
	dir := t.TempDir()
	_, err := NewClient(filepath.Join(dir, "none")).Status(t.Context())
	isError(t, err, CodeUnavailable, "start one with `weft launch`")

	// A daemon that was killed leaves its socket behind.
	left := filepath.Join(dir, "left")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: left})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	_, err = NewClient(left).Status(t.Context())
	isError(t, err, CodeUnavailable, "no weft daemon answers at "+left)
}

func TestADaemonThatHangsUpIsUnavailableWithoutTalkOfURLs(t *testing.T) {
	c := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	err := c.Stop(t.Context(), StopRequest{})
	isError(t, err, CodeUnavailable, c.socket)
	if err != nil && strings.Contains(err.Error(), "http://") {
		t.Errorf("it says %q", err)
	}
}

func TestASocketThatIsNotForThisUserIsForbidden(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", fs.ErrPermission)}
	isError(t, NewClient("/s").explain(refused), CodeForbidden, "member of group weft")
}

func TestTheDeadlineIsATimeoutAndCancellationIsNot(t *testing.T) {
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := c.Status(ctx)
	isError(t, err, CodeTimeout, "did not answer in time")

	ctx, cancel = context.WithCancel(t.Context())
	cancel()
	_, err = c.Status(ctx)
	isError(t, err, CodeFailed, "interrupted")
}

func TestTheDaemonIsAskedToAnswerBeforeTheDeadline(t *testing.T) {
	header := make(chan string, 1)
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		header <- r.Header.Get(HeaderTimeout)
		fmt.Fprint(w, "{}")
	})
	ask := func(ctx context.Context) string {
		t.Helper()
		if _, err := c.Version(ctx); err != nil {
			t.Fatal(err)
		}
		return <-header
	}
	if got := ask(t.Context()); got != "" {
		t.Errorf("without a deadline: %q", got)
	}
	const all = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), all)
	defer cancel()
	if got, err := time.ParseDuration(ask(ctx)); err != nil || got > all-answerMargin {
		t.Errorf("the daemon may take %s of %s (%v)", got, all, err)
	}
}
