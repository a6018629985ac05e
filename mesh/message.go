package mesh

import (
	"crypto/ed25519"
	"fmt"
	"net/netip"

	"github.com/google/uuid"
)

// kind of a gossiped message.
type kind uint8

const (
	kindRecords kind = 1 // signed records
	kindDelta   kind = 2 // a change of a channel, for everybody
	kindDirect  kind = 3 // a message of a channel, for one peer
	kindState   kind = 4 // everything: records and channels
	kindWant    kind = 5 // To asks the receiver for the receiver's own record
)

// message is what travels inside of memberlist's encrypted packets and streams.
type message struct {
	_        struct{} `cbor:",toarray"`
	Protocol int
	Kind     kind
	Records  []signed
	Channels []channelData
	// Of a direct message: who wrote it, for whom, the proof, and where to
	// answer.
	Key, Signature []byte
	To             uuid.UUID
	From           netip.AddrPort
}

type channelData struct {
	_    struct{} `cbor:",toarray"`
	Name string
	Data []byte
}

func recordsMessage(list []signed) []byte {
	return encode(message{Protocol: ProtocolVersion, Kind: kindRecords, Records: list})
}

func channelMessage(k kind, channel string, data []byte) message {
	return message{Protocol: ProtocolVersion, Kind: k, Channels: []channelData{{Name: channel, Data: data}}}
}

func wantMessage(from uuid.UUID) []byte {
	return encode(message{Protocol: ProtocolVersion, Kind: kindWant, To: from})
}

// directMessage is a message of a channel for one peer, signed.
func directMessage(meshID uuid.UUID, self Identity, to uuid.UUID, answerAt netip.AddrPort, channel string, data []byte) []byte {
	msg := channelMessage(kindDirect, channel, data)
	msg.To, msg.From, msg.Key = to, answerAt, self.Key.Public().(ed25519.PublicKey)
	msg.Signature = ed25519.Sign(self.Key, directBytes(meshID, msg))
	return encode(msg)
}

// directBytes is what the writer of a direct message signs: it holds for that
// mesh and that receiver only.
func directBytes(meshID uuid.UUID, msg message) []byte {
	b := append([]byte("weft direct\x00"), meshID[:]...)
	b = append(b, msg.To[:]...)
	return append(append(b, encode(msg.From)...), encode(msg.Channels)...)
}

// verifyDirect returns who wrote a direct message to self.
func verifyDirect(meshID, self uuid.UUID, msg message) (from uuid.UUID, err error) {
	if len(msg.Channels) != 1 || len(msg.Key) != ed25519.PublicKeySize {
		return uuid.Nil, fmt.Errorf("direct message: %w", errMalformed)
	}
	if !ed25519.Verify(msg.Key, directBytes(meshID, msg), msg.Signature) {
		return uuid.Nil, fmt.Errorf("direct message: %w", errSignature)
	}
	if msg.To != self {
		return uuid.Nil, fmt.Errorf("direct message for peer %s", msg.To)
	}
	return IDOf(msg.Key), nil
}

// decodeMessage reads what a peer sent.
func decodeMessage(b []byte) (message, error) {
	var msg message
	if err := decoder.Unmarshal(b, &msg); err != nil {
		return message{}, fmt.Errorf("read message: %w: %w", errMalformed, err)
	}
	if !speaks(msg.Protocol) {
		return message{}, fmt.Errorf("message of version %d, this peer speaks %d: %w", msg.Protocol, ProtocolVersion, errVersion)
	}
	return msg, nil
}
