package bridge

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

// counted is what a counter has counted.
type counted struct{ packets, bytes uint64 }

// counts are the counters of tables by name; those that cannot be read are left out.
func counts(ts tables) map[string]counted {
	out := map[string]counted{}
	for _, t := range ts {
		listing, err := nft("", "-j", "list", "counters", "table", t.family, t.name)
		if err != nil {
			continue // there is no such table yet
		}
		if err := parseCounters([]byte(listing), out); err != nil {
			continue
		}
	}
	return out
}

// parseCounters reads the answer to `nft -j list counters`.
func parseCounters(listing []byte, into map[string]counted) error {
	var doc struct {
		Nftables []struct {
			Counter *struct {
				Name           string
				Packets, Bytes uint64
			}
		}
	}
	if err := json.Unmarshal(listing, &doc); err != nil {
		return fmt.Errorf("read nft's listing: %w", err)
	}
	for _, o := range doc.Nftables {
		if c := o.Counter; c != nil {
			into[c.Name] = counted{c.Packets, c.Bytes}
		}
	}
	return nil
}

// Spoofed is how many packets containers have sent by addresses that are not
// theirs. All of them were dropped.
func Spoofed(bridge string) uint64 {
	return counts(tables{{family: "bridge", name: tableName(bridge)}})[spoofedCounter].packets
}

// Passed is what has gone to a peer and come from it in the clear, in bytes of IP
// packets, since it may.
type Passed struct{ Received, Sent uint64 }

// The counters of a peer are named by these and its id.
const (
	receivedPrefix = "received_"
	sentPrefix     = "sent_"
)

func receivedBy(peer uuid.UUID) string { return receivedPrefix + hex.EncodeToString(peer[:]) }
func sentTo(peer uuid.UUID) string     { return sentPrefix + hex.EncodeToString(peer[:]) }

// PassedInTheClear is what the guard has let pass, by peer.
func PassedInTheClear(bridge string) map[uuid.UUID]Passed {
	out := map[uuid.UUID]Passed{}
	for name, c := range counts(tables{{family: "inet", name: tableName(bridge)}}) {
		received, isReceived := strings.CutPrefix(name, receivedPrefix)
		sent, isSent := strings.CutPrefix(name, sentPrefix)
		id, err := uuid.Parse(received)
		switch {
		case isReceived && err == nil:
			p := out[id]
			p.Received = c.bytes
			out[id] = p
		case isSent:
			if id, err = uuid.Parse(sent); err == nil {
				p := out[id]
				p.Sent = c.bytes
				out[id] = p
			}
		}
	}
	return out
}
