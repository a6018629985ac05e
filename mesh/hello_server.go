package mesh

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"
)

// doorman answers hellos.
type doorman struct {
	token    Token
	self     HelloSelf
	departed func(helloOpen) bool
	refused  func(addr, name string, v verdict)
}

// answer holds one hello; the connection is past the magic.
func (d *doorman) answer(conn net.Conn) error {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(helloTime)); err != nil {
		return err
	}
	var open helloOpen
	said1, err := readFrame(conn, &open)
	if err != nil {
		return err
	}
	answer := helloAnswer{Verdict: d.judge(open), Protocol: ProtocolVersion, Mesh: d.token.MeshID}
	if answer.Verdict.Code != "" {
		d.refused(conn.RemoteAddr().String(), open.Name, answer.Verdict)
		_, err := writeFrame(conn, answer)
		return err
	}
	answer.ID, answer.Name, answer.Nonce = d.self.ID, d.self.Name, nonce()
	said2 := encode(answer)
	answer.Proof = proof(d.token, "server", said1, said2)
	if _, err := writeFrame(conn, answer); err != nil {
		return err
	}
	var theirs helloProof
	if _, err := readFrame(conn, &theirs); err != nil {
		return err
	}
	end := helloEnd{Settings: d.self.Settings}
	switch {
	case !hmac.Equal(theirs.Proof, proof(d.token, "client", said1, said2)):
		end.Verdict = verdict{CodeBadToken, wrongSecret}
	case open.ID != d.self.ID && d.departed(open):
		end.Verdict = verdict{CodeDeparted, fmt.Sprintf("peer %s has left this mesh for good: run `weft reset` on that host and join anew", open.ID)}
	case open.Settings != nil && !bytes.Equal(open.Settings, settingsHash(d.self.Settings)):
		end.Verdict = verdict{CodeSettings, "the settings of the mesh (range, block size, encapsulation, ports) differ from that host's: run `weft reset` there and join anew"}
	}
	if end.Verdict.Code != "" {
		end.Settings = nil
		d.refused(conn.RemoteAddr().String(), open.Name, end.Verdict)
	}
	end.Proof = proof(d.token, "end", said1, said2, encode(end))
	_, err = writeFrame(conn, end)
	return err
}

func settingsHash(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// judge is what can be said before the client has proved anything.
func (d *doorman) judge(open helloOpen) verdict {
	switch {
	case open.Protocol != ProtocolVersion:
		return verdict{CodeVersion, fmt.Sprintf("protocol version %d is not %d, this host's: upgrade the older weft of the two", open.Protocol, ProtocolVersion)}
	case open.Mesh != d.token.MeshID:
		return verdict{CodeForeignMesh, fmt.Sprintf("this host belongs to mesh %s, the token is for mesh %s: use the token that `weft token show` prints here",
			d.token.MeshID, open.Mesh)}
	}
	return verdict{}
}

// Refusal is a host that this one did not let in.
type Refusal struct {
	Addr   string // host only: the port is new each time
	Name   string // as it called itself
	Code   string
	Reason string
	Last   time.Time
	Count  int
}

// refusalsKept bounds the memory of refusals.
const refusalsKept = 64

// refusals remembers the latest ones, for status and so that a host which
// keeps knocking is logged once a minute and not each time.
type refusals struct {
	mu   sync.Mutex
	list []Refusal
}

// add counts a refusal, and tells whether it is worth a line in the log.
func (r *refusals) add(addr, name string, v verdict, now time.Time) (news bool) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.list, func(o Refusal) bool { return o.Addr == host && o.Code == v.Code })
	if i < 0 {
		if len(r.list) == refusalsKept {
			r.list = r.list[1:]
		}
		r.list = append(r.list, Refusal{Addr: host, Code: v.Code})
		i, news = len(r.list)-1, true
	}
	o := &r.list[i]
	news = news || now.Sub(o.Last) > time.Minute
	o.Name, o.Reason, o.Last, o.Count = clip(name), v.Reason, now, o.Count+1
	return news
}

func (r *refusals) all() []Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
