package mesh

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
)

// dialer opens a connection to host:port.
type dialer func(ctx context.Context, addr string) (net.Conn, error)

func dialTCP(ctx context.Context, addr string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// Hello asks the peer at host:port to be let in. It changes nothing on either
// side, and needs no Mesh. The error is a *RefusedError or an *UnreachableError.
func Hello(ctx context.Context, addr string, t Token, self HelloSelf) (Welcome, error) {
	w, _, err := hello(ctx, dialTCP, addr, t, self)
	return w, err
}

// HelloFirst is Hello to several, one at least, and returns as soon as one lets
// this host in. One that is earlier in the list has a head start.
func HelloFirst(ctx context.Context, addrs []string, t Token, self HelloSelf) (Welcome, error) {
	w, _, err := first(ctx, addrs, func(ctx context.Context, addr string) (Welcome, error) {
		return Hello(ctx, addr, t, self)
	}, func(Welcome) {})
	return w, err
}

// hello is Hello over any connection; it also returns the address that a name
// led to, so that membership is asked of the very host that was greeted.
func hello(ctx context.Context, dial dialer, addr string, t Token, self HelloSelf) (Welcome, string, error) {
	conn, w, err := openHello(ctx, dial, addr, t, self)
	if err != nil {
		return w, addr, err
	}
	at := addr
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		at = tcp.String()
	}
	return w, at, conn.Close()
}

// openHello is hello that keeps the connection, if the peer lets this host in.
func openHello(ctx context.Context, dial dialer, addr string, t Token, self HelloSelf) (net.Conn, Welcome, error) {
	ctx, cancel := context.WithTimeout(ctx, helloTime)
	defer cancel()
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, Welcome{}, &UnreachableError{addr, err}
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	w, err := greet(conn, addr, t, self)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	var refused *RefusedError
	if err != nil && !errors.As(err, &refused) && ctx.Err() != nil {
		err = &UnreachableError{addr, fmt.Errorf("it takes connections but does not answer the hello: %w", ctx.Err())}
	}
	if err != nil {
		conn.Close()
		return nil, w, err
	}
	return conn, w, nil
}

// errNotWeft is what an answer means that is no hello.
var errNotWeft = errors.New("what listens there is not weft")

func greet(conn net.Conn, addr string, t Token, self HelloSelf) (Welcome, error) {
	fail := func(err error) (Welcome, error) { return Welcome{}, &UnreachableError{addr, err} }
	refuse := func(code, reason string) (Welcome, error) {
		return Welcome{}, &RefusedError{Addr: addr, Code: code, Reason: reason}
	}
	open := helloOpen{Protocol: ProtocolVersion, Mesh: t.MeshID, ID: self.ID, Name: self.Name, Advertise: self.Advertise, Nonce: nonce(), Hint: t.hint(), Back: self.Back, Line: self.line != nil, Life: self.Life, Rival: self.rival}
	if self.Settings != nil {
		sum := sha256.Sum256(self.Settings)
		open.Settings = sum[:]
	}
	var first bytes.Buffer
	first.WriteString(magic)
	said1, err := writeFrame(&first, open)
	if err != nil {
		return fail(err)
	}
	if _, err := conn.Write(first.Bytes()); err != nil {
		return fail(fmt.Errorf("%w: %w", errNotWeft, err))
	}
	var answer helloAnswer
	frame, err := readFrame(conn, &answer)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", errNotWeft, err))
	}
	// These two cannot be proved, so their reason is told in our own words.
	switch answer.Verdict.Code {
	case "":
	case CodeForeignMesh:
		return refuse(CodeForeignMesh, fmt.Sprintf("it belongs to mesh %s, but this token is for mesh %s: use a token printed on a host of that mesh (`weft token show`)",
			answer.Mesh, t.MeshID))
	case CodeVersion:
		return refuse(CodeVersion, fmt.Sprintf("it speaks protocol version %d, this host version %d: upgrade the older weft of the two", answer.Protocol, ProtocolVersion))
	default:
		return fail(fmt.Errorf("%w: refusal %q without a proof", errNotWeft, clip(answer.Verdict.Code)))
	}
	if len(answer.Nonce) != nonceLen {
		return fail(fmt.Errorf("%w: answer without a nonce", errNotWeft))
	}
	said2, err := unproved(frame, answerProof)
	if err != nil {
		return fail(fmt.Errorf("%w: %w", errNotWeft, err))
	}
	// The proof of a wrong token is sent as well, so that the peer can tell its
	// user who knocked.
	mine := helloProof{Proof: proof(t, "client", said1, said2)}
	if self.line != nil {
		mine.Key, mine.Signature = self.line.Public().(ed25519.PublicKey), ed25519.Sign(self.line, lineProof(said1, said2))
	}
	if _, err := writeFrame(conn, mine); err != nil {
		return fail(err)
	}
	var end helloEnd
	frame, err = readFrame(conn, &end)
	if !hmac.Equal(answer.Proof, proof(t, "server", said1, said2)) {
		return refuse(CodeBadToken, wrongSecret)
	}
	if err != nil {
		return fail(err)
	}
	said3, err := unproved(frame, endProof)
	if err != nil {
		return fail(err)
	}
	if !hmac.Equal(end.Proof, proof(t, "end", said1, said2, said3)) {
		return fail(errors.New("the end of the hello has no valid proof"))
	}
	if end.Verdict.Code != "" {
		return Welcome{}, &RefusedError{addr, end.Verdict.Code, clip(end.Verdict.Reason), end.Life}
	}
	switch {
	case answer.ID == self.ID && self.Life.other(answer.Life) && self.Life.givesWay(answer.Life):
		return Welcome{}, &RefusedError{addr, CodeCopy, copyVerdict(self.ID, addr).Reason, answer.Life}
	case answer.ID == self.ID:
		return refuse(CodeSelf, "that address is this host's own")
	}
	return Welcome{ID: answer.ID, Name: clip(answer.Name), Settings: end.Settings, Life: answer.Life, Back: end.Back, From: end.From}, nil
}
