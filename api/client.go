package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"syscall"
	"time"
)

// answerMargin is how much earlier than the caller's own deadline the daemon is
// asked to answer, so that it can say what it waited for.
const answerMargin = 500 * time.Millisecond

// otherVersion is what to do about an answer that makes no sense here.
const otherVersion = "is it of another version? `weft version` tells"

// maxAnswer bounds an answer, in bytes.
const maxAnswer = 64 << 20

// Client talks to the daemon behind a control socket. It is safe for
// concurrent use. Its errors are, or wrap, *Error.
type Client struct {
	socket string
	http   http.Client
}

// NewClient returns a client for a socket; nothing is dialled yet.
func NewClient(socket string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Client{socket: socket, http: http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}}}
}

// Status asks for everything that the daemon knows.
func (c *Client) Status(ctx context.Context) (Status, error) {
	return call[Status](ctx, c, http.MethodGet, PathStatus, nil)
}

// Here tells whether the daemon is in the container of this process, or both are
// in none (pid_namespaces(7)).
func (c *Client) Here(ctx context.Context) (bool, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", c.socket)
	if err != nil {
		return false, c.explain(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false, c.explain(err)
	}
	var cred *syscall.Ucred
	e := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err = errors.Join(e, err); err != nil {
		return false, c.explain(err)
	}
	return cred.Pid != 0, nil
}

// Attachments lists the containers on the network.
func (c *Client) Attachments(ctx context.Context) ([]Attachment, error) {
	return call[[]Attachment](ctx, c, http.MethodGet, PathAttachments, nil)
}

// Attach puts a container on the network.
func (c *Client) Attach(ctx context.Context, r AttachRequest) (Attachment, error) {
	return call[Attachment](ctx, c, http.MethodPost, PathAttach, r)
}

// Detach takes a container off the network and returns what it had.
func (c *Client) Detach(ctx context.Context, r DetachRequest) ([]Attachment, error) {
	return call[[]Attachment](ctx, c, http.MethodPost, PathDetach, r)
}

// Expose gives the host an address on the network and returns all it has.
func (c *Client) Expose(ctx context.Context, r ExposeRequest) (Exposure, error) {
	return call[Exposure](ctx, c, http.MethodPost, PathExpose, r)
}

// Hide takes addresses of Expose away and returns those that are left.
func (c *Client) Hide(ctx context.Context, r ExposeRequest) (Exposure, error) {
	return call[Exposure](ctx, c, http.MethodPost, PathHide, r)
}

// Token asks for the mesh's token.
func (c *Client) Token(ctx context.Context) (Token, error) {
	return call[Token](ctx, c, http.MethodGet, PathToken, nil)
}

// RotateToken makes a new token of the mesh, and returns when every host that
// answers uses it and no other.
func (c *Client) RotateToken(ctx context.Context, r RotateRequest) (RotateReport, error) {
	return call[RotateReport](ctx, c, http.MethodPost, PathRotateToken, r)
}

// RotateKeys has every host of the mesh make a new key of WireGuard, and returns
// when those that answer use it and no other.
func (c *Client) RotateKeys(ctx context.Context) (KeysReport, error) {
	return call[KeysReport](ctx, c, http.MethodPost, PathRotateKeys, struct{}{})
}

// Version asks for the daemon's version.
func (c *Client) Version(ctx context.Context) (Version, error) {
	return call[Version](ctx, c, http.MethodGet, PathVersion, nil)
}

// Stop ends the daemon and returns when its process is gone; traffic goes on.
func (c *Client) Stop(ctx context.Context, r StopRequest) error {
	_, err := call[struct{}](ctx, c, http.MethodPost, PathStop, r)
	return err
}

// Reset removes every trace of weft from the daemon's host, and returns when the
// daemon's process is gone.
func (c *Client) Reset(ctx context.Context, r ResetRequest) (ResetReport, error) {
	return call[ResetReport](ctx, c, http.MethodPost, PathReset, r)
}

// RemovePeer shuts hosts out of the mesh for good, and returns when their
// addresses have been given to others.
func (c *Client) RemovePeer(ctx context.Context, r RemoveRequest) (RemoveReport, error) {
	return call[RemoveReport](ctx, c, http.MethodPost, PathRemove, r)
}

// Connect adds hosts to join and returns all that there are.
func (c *Client) Connect(ctx context.Context, r ConnectRequest) ([]Target, error) {
	return call[[]Target](ctx, c, http.MethodPost, PathConnect, r)
}

// Forget takes hosts to join away and returns those that are left.
func (c *Client) Forget(ctx context.Context, r ConnectRequest) ([]Target, error) {
	return call[[]Target](ctx, c, http.MethodPost, PathForget, r)
}

// Prime waits until addresses can be given on the daemon's host.
func (c *Client) Prime(ctx context.Context) (IPAM, error) {
	return call[IPAM](ctx, c, http.MethodPost, PathPrime, struct{}{})
}

func call[Out any](ctx context.Context, c *Client, method, path string, in any) (out Out, err error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return out, &Error{Code: CodeFailed, Message: "encode request: " + err.Error()}
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weft"+path, body)
	if err != nil {
		return out, &Error{Code: CodeFailed, Message: "make request: " + err.Error()}
	}
	if end, ok := ctx.Deadline(); ok {
		if left := time.Until(end) - answerMargin; left > 0 {
			req.Header.Set(HeaderTimeout, left.String())
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return out, c.explain(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return out, c.explain(err)
	}
	if resp.StatusCode != http.StatusOK {
		var e Error
		if json.Unmarshal(b, &e) != nil || e.Code == "" {
			e = Error{Code: CodeFailed, Message: fmt.Sprintf("the daemon answers %s to %s %s", resp.Status, method, path),
				Fix: otherVersion}
		}
		return out, &e
	}
	if err := json.Unmarshal(b, &out); err != nil {
		return out, &Error{Code: CodeFailed, Message: "the daemon's answer cannot be read: " + err.Error(), Fix: otherVersion}
	}
	return out, nil
}

// explain turns what went wrong on the way into what to do.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &Error{Code: CodeTimeout, Message: "the daemon did not answer in time", Fix: "`weft status` shows how it is; --timeout gives it longer"}
	case errors.Is(err, context.Canceled):
		return &Error{Code: CodeFailed, Message: "interrupted"}
	case errors.Is(err, fs.ErrPermission):
		return &Error{Code: CodeForbidden, Message: "this user may not use " + c.socket, Fix: "run as root or as a member of group weft"}
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return &Error{Code: CodeUnavailable, Message: "no weft daemon answers at " + c.socket, Fix: "start one with `weft launch`"}
	}
	var way *url.Error // names a URL, which means nothing to the user
	if errors.As(err, &way) {
		err = way.Err
	}
	return &Error{Code: CodeUnavailable, Message: fmt.Sprintf("talk to the daemon at %s: %v", c.socket, err),
		Fix: "`weft status` shows whether it is there still"}
}
