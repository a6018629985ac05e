package e2e

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"flag"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/mesh"
)

var known = flag.Int("known", 1000, "how many peers a daemon is measured with that knows them")

// rememberedPeers is what a daemon's store has of peers: their signed records.
type rememberedPeers struct {
	_       struct{} `cbor:",toarray"`
	Version int
	Records []cbor.RawMessage
}

type signedRecord struct {
	_         struct{} `cbor:",toarray"`
	Payload   []byte
	Signature []byte
}

// record is what a peer would publish, signed by a key that is made for it.
func record(b *testing.B, of uuid.UUID, n int) cbor.RawMessage {
	b.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	at := netip.AddrFrom4([4]byte{192, 0, 3 + byte(n>>8), byte(n)})
	payload, err := cbor.Marshal(struct {
		Mesh    uuid.UUID `cbor:"1,keyasint"`
		Key     []byte    `cbor:"2,keyasint"`
		Version uint64    `cbor:"3,keyasint"`
		Body    mesh.Body `cbor:"4,keyasint"`
	}{of, public, 7, mesh.Body{
		Name: fmt.Sprintf("known%d", n), Gossip: []netip.AddrPort{netip.AddrPortFrom(at, 6783)}, Underlay: []netip.Addr{at}, UnderlayMTU: 1500,
		Transports: []string{"wireguard"}, Slots: []mesh.Slot{{Port: 6785, Key: public}}, WireGuardKey: public, SealKey: public,
		Gateway: netip.AddrFrom4([4]byte{10, 33, byte(n >> 8), byte(n)}), Protocol: mesh.ProtocolVersion, Software: "0.1.0", Used: 3, FreeBlocks: 17,
		Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 34 + byte(n>>12), byte(n >> 4), byte(n << 4)}), 28)},
	}})
	if err != nil {
		b.Fatal(err)
	}
	signed, err := cbor.Marshal(signedRecord{Payload: payload, Signature: ed25519.Sign(private, append([]byte("weft record\x00"), payload...))})
	if err != nil {
		b.Fatal(err)
	}
	return signed
}

// BenchmarkKnown measures a daemon that remembers many peers, of which only one is
// there. They have no part of the address plan, so no links are in it.
func BenchmarkKnown(b *testing.B) {
	lab := netlab.New(b)
	hosts := []*netlab.Host{lab.Host("h1"), lab.Host("h2")}
	hosts[0].Run("weft", "launch")
	hosts[1].Run(joinLine(hosts[0])...)
	s, err := api.NewClient(hosts[0].Path(api.DefaultSocket)).Status(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	hosts[0].Run("weft", "stop")
	kept, err := store.Open(hosts[0].Path("/var/lib/weft"), false)
	if err != nil {
		b.Fatal(err)
	}
	old, err := kept.Get("peer", "snapshot")
	var all rememberedPeers
	if err == nil {
		err = cbor.Unmarshal(old, &all)
	}
	if err != nil {
		b.Fatal(err)
	}
	for n := range *known - len(all.Records) {
		all.Records = append(all.Records, record(b, s.Mesh.ID, n))
	}
	snapshot, err := cbor.Marshal(all)
	if err == nil {
		err = kept.Put("peer", "snapshot", snapshot)
	}
	if err == nil {
		err = kept.Close()
	}
	if err != nil {
		b.Fatal(err)
	}
	hosts[0].Run("weft", "launch")
	for _, h := range hosts { // the second hears of all by the mesh
		deadline := time.Now().Add(5 * time.Minute)
		for n := 0; n < *known; time.Sleep(time.Second) {
			if s, err := api.NewClient(h.Path(api.DefaultSocket)).Status(context.Background()); err == nil {
				n = len(s.Peers)
			}
			if time.Now().After(deadline) {
				b.Fatalf("%s knows %d peers", h.Name, n)
			}
		}
	}
	time.Sleep(30 * time.Second)
	const long = 30 * time.Second
	before := usedBy(b, hosts)
	time.Sleep(long)
	for i, u := range usedBy(b, hosts) {
		b.Logf("%s knows %d peers: RSS %.1f MB, PSS %.1f MB, %.2f %% of a core", hosts[i].Name, *known, u[daemon].rss, u[daemon].pss,
			(u[daemon].cpu-before[i][daemon].cpu).Seconds()/long.Seconds()*100)
	}
}
