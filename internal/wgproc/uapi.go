package wgproc

import (
	"crypto/ecdh"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// sessionTime is how long WireGuard believes in a session (REJECT_AFTER_TIME).
const sessionTime = 180 * time.Second

// peerState is what of a peer is told but not set, or not at once.
type peerState struct {
	key       string    // in hex
	handshake time.Time // of the last one; 1970 for none
	keepalive int       // seconds; 0 for none
}

// readConfig takes the answer of WireGuard's configuration protocol apart: into
// what can be set as it is, which is all but keepalives, and the peers.
func readConfig(text string) (settable string, self string, peers []peerState) {
	var b strings.Builder
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		last := len(peers) - 1
		switch key {
		case "private_key":
			self = publicKey(value)
		case "public_key":
			peers = append(peers, peerState{key: value})
		case "last_handshake_time_sec":
			seconds, _ := strconv.ParseInt(value, 10, 64)
			peers[last].handshake = time.Unix(seconds, 0)
			continue
		case "last_handshake_time_nsec":
			nanoseconds, _ := strconv.ParseInt(value, 10, 64)
			peers[last].handshake = time.Unix(peers[last].handshake.Unix(), nanoseconds)
			continue
		case "persistent_keepalive_interval":
			peers[last].keepalive, _ = strconv.Atoi(value)
			continue
		case "tx_bytes", "rx_bytes":
			continue
		}
		b.WriteString(line)
	}
	return b.String(), self, peers
}

func publicKey(private string) string {
	b, err := hex.DecodeString(private)
	if err != nil {
		return ""
	}
	key, err := ecdh.X25519().NewPrivateKey(b)
	if err != nil {
		return ""
	}
	return hex.EncodeToString(key.PublicKey().Bytes())
}

// alive tells whether a peer has a session.
func (p peerState) alive(now time.Time) bool {
	return now.Sub(p.handshake) < sessionTime
}

// keepalives sets those of peers.
func keepalives(peers []peerState) string {
	var b strings.Builder
	for _, p := range peers {
		b.WriteString("public_key=" + p.key + "\nupdate_only=true\npersistent_keepalive_interval=" + strconv.Itoa(p.keepalive) + "\n")
	}
	return b.String()
}
