package mesh

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net"
	"time"

	"github.com/google/uuid"
)

// doorman answers hellos.
type doorman struct {
	tokens   func() []Token // that are understood, the one that is used first
	self     HelloSelf
	departed func(uuid.UUID) bool // whether that peer has left for good
	// elsewhere is where who says hello lives already, if it does, and which life that
	// is; nil to let all in.
	elsewhere func(helloOpen) (where string, other Life, ok bool)
	// outdated tells that a token lets in those alone who are in the mesh already; nil
	// for none.
	outdated func(Token, uuid.UUID) bool
	refused  func(addr, name string, v verdict)
	back     func(helloOpen) bool              // tries to connect to a peer where it says that it is
	line     func(id uuid.UUID, conn net.Conn) // keeps a line, and owns its connection
}

// answer holds one hello; the connection is past the magic. The error says why
// there was neither a welcome nor a refusal.
func (d *doorman) answer(conn net.Conn) error {
	kept := false
	defer func() {
		if !kept {
			conn.Close()
		}
	}()
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return err
	}
	var open helloOpen
	said1, err := readFrame(conn, &open)
	if err != nil {
		return err
	}
	if len(open.Nonce) != nonceLen {
		return fmt.Errorf("hello with a nonce of %d bytes", len(open.Nonce))
	}
	token := pick(d.tokens(), open.Hint)
	answer := helloAnswer{Verdict: judge(token, open), Protocol: ProtocolVersion, Mesh: token.MeshID}
	if answer.Verdict.Code != "" {
		d.refused(conn.RemoteAddr().String(), open.Name, answer.Verdict)
		_, err := writeFrame(conn, answer)
		return err
	}
	answer.ID, answer.Name, answer.Nonce, answer.Life = d.self.ID, d.self.Name, nonce(), d.self.Life
	said2 := encode(answer)
	answer.Proof = proof(token, "server", said1, said2)
	if _, err := writeFrame(conn, answer); err != nil {
		return err
	}
	var theirs helloProof
	if _, err := readFrame(conn, &theirs); err != nil {
		return err
	}
	end := helloEnd{Settings: d.self.Settings}
	switch {
	case !hmac.Equal(theirs.Proof, proof(token, "client", said1, said2)):
		end.Verdict = verdict{CodeBadToken, wrongSecret}
	case open.ID != d.self.ID && d.departed(open.ID):
		end.Verdict = verdict{CodeDeparted, fmt.Sprintf("peer %s has left this mesh for good: run `weft reset` on that host and join anew", open.ID)}
	case open.Settings != nil && !bytes.Equal(open.Settings, settingsHash(d.self.Settings)):
		end.Verdict = verdict{CodeSettings, "the settings of the mesh (range, block size, encapsulation, ports) differ from that host's: run `weft reset` there and join anew"}
	case d.outdated != nil && d.outdated(token, open.ID):
		end.Verdict = verdict{CodeBadToken, wrongSecret}
	}
	if end.Verdict.Code == "" && open.ID != d.self.ID && d.elsewhere != nil {
		if where, other, ok := d.elsewhere(open); ok {
			end.Verdict, end.Life = copyVerdict(open.ID, where), other
		}
	}
	if end.Verdict.Code != "" {
		end.Settings = nil
		d.refused(conn.RemoteAddr().String(), open.Name, end.Verdict)
	} else if open.Back {
		d.connectBack(conn, open, &end)
	}
	end.Proof = proof(token, "end", said1, said2, encode(end))
	if _, err = writeFrame(conn, end); err != nil || !open.Line || end.Verdict.Code != "" {
		return err
	}
	if !mayHoldLine(open.ID, theirs, said1, said2) {
		return fmt.Errorf("line of peer %s: %w", open.ID, errSignature)
	}
	kept = true
	if err := conn.SetDeadline(time.Time{}); err != nil {
		conn.Close()
		return err
	}
	d.line(open.ID, conn)
	return nil
}

// connectBack says in the end of a hello how an attempt to connect back went.
func (d *doorman) connectBack(conn net.Conn, open helloOpen, end *helloEnd) {
	end.Back = backFailed
	if d.back(open) {
		end.Back = backThrough
	}
	if from, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		end.From = from.AddrPort().Addr().Unmap()
	}
}

func settingsHash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// judge is what can be said before the client has proved anything.
func judge(token Token, open helloOpen) verdict {
	switch {
	case !speaks(open.Protocol):
		return verdict{CodeVersion, fmt.Sprintf("protocol version %d is too far from %d, this host's: upgrade the older weft of the two", open.Protocol, ProtocolVersion)}
	case open.Mesh != token.MeshID:
		return verdict{CodeForeignMesh, fmt.Sprintf("this host belongs to mesh %s, the token is for mesh %s: use the token that `weft token show` prints here",
			token.MeshID, open.Mesh)}
	}
	return verdict{}
}
