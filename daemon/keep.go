package daemon

import (
	"bytes"
	"fmt"
	"net/netip"
	"time"

	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// Buckets and keys of the store. The address plan's buckets are named by
// package ipam and kept under ipamPrefix.
const (
	bucketPeer        = "peer"
	keyIdentity       = "identity"
	keyMachine        = "machine"
	keyToken          = "token"
	keySettings       = "settings"
	keyTargets        = "targets"
	keySnapshot       = "snapshot"
	keyHost           = "host"
	keyTunnelKey      = "tunnel-key"
	bucketAttachments = "attachments"
	bucketSysctls     = "sysctls"
	bucketIPAM        = "ipam"
)

// keep is the daemon's view of the store: what is kept, in its own types.
type keep struct{ *store.Store }

// peerState is what makes this host the peer that it is.
type peerState struct {
	identity mesh.Identity
	token    mesh.Token
	settings settings
	targets  []string
	snapshot []byte
	host     HostOptions // as they were given
	// tunnelKey is this host's of WireGuard.
	tunnelKey encap.PrivateKey
}

// peer reads the peer's state; ok is false where there is none yet.
func (k keep) peer() (p peerState, ok bool, err error) {
	read := func(key string, into func([]byte) error) {
		if err != nil {
			return
		}
		var b []byte
		if b, err = k.Get(bucketPeer, key); err != nil || b == nil {
			return
		}
		if err = into(b); err != nil {
			err = fmt.Errorf("read %s from the store: %w", key, err)
		}
		ok = true
	}
	read(keyIdentity, p.identity.UnmarshalBinary)
	read(keyToken, func(b []byte) (err error) { p.token, err = mesh.ParseToken(string(b)); return err })
	read(keySettings, func(b []byte) (err error) { p.settings, err = decodeSettings(b); return err })
	read(keyTargets, func(b []byte) error { return strict.Unmarshal(b, &p.targets) })
	read(keySnapshot, func(b []byte) error { p.snapshot = b; return nil })
	read(keyHost, func(b []byte) error { return strict.Unmarshal(b, &p.host) })
	read(keyTunnelKey, func(b []byte) error {
		if copy(p.tunnelKey[:], b) != len(p.tunnelKey) || len(b) != len(p.tunnelKey) {
			return fmt.Errorf("a key of %d bytes", len(b))
		}
		return nil
	})
	return p, ok, err
}

// savePeer makes a new peer's state durable, in one step.
func (k keep) savePeer(p peerState, machine string) error {
	id, err := p.identity.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	put := func(key string, v []byte) store.Write {
		return store.Write{Bucket: bucketPeer, Key: []byte(key), Value: v}
	}
	return k.Commit([]store.Write{
		put(keyIdentity, id), put(keyMachine, []byte(machine)), put(keyToken, []byte(p.token.String())),
		put(keySettings, encode(p.settings)), put(keyTargets, encode(p.targets)), put(keyHost, encode(p.host)),
		put(keyTunnelKey, p.tunnelKey[:]),
	})
}

// saveGiven makes durable what a later launch was given anew, and a key that
// was made for it because an older weft had none.
func (k keep) saveGiven(p peerState) error {
	return k.Commit([]store.Write{
		{Bucket: bucketPeer, Key: []byte(keyHost), Value: encode(p.host)},
		{Bucket: bucketPeer, Key: []byte(keyTargets), Value: encode(p.targets)},
		{Bucket: bucketPeer, Key: []byte(keyTunnelKey), Value: p.tunnelKey[:]},
	})
}

// attachment is a container interface as it is kept. Its key in the store and
// its owner in the address plan are the same string.
type attachment struct {
	Reference string     `cbor:"1,keyasint"` // as the user named it
	NetNS     string     `cbor:"2,keyasint"` // path
	Cookie    uint64     `cbor:"3,keyasint"`
	Interface string     `cbor:"4,keyasint"`
	Address   netip.Addr `cbor:"5,keyasint"`
	Default   bool       `cbor:"6,keyasint"` // default route through the bridge
	Since     time.Time  `cbor:"7,keyasint"`
}

func (a attachment) key() string { return attachmentKey(a.Cookie, a.Interface) }

// attachmentKey names an interface of a network namespace.
func attachmentKey(cookie uint64, ifname string) string {
	return fmt.Sprintf("netns:%016x/%s", cookie, ifname)
}

func (k keep) attachments() (map[string]attachment, error) {
	all, err := k.All(bucketAttachments)
	if err != nil {
		return nil, err
	}
	out := make(map[string]attachment, len(all))
	for _, w := range all {
		var a attachment
		if err := strict.Unmarshal(w.Value, &a); err != nil {
			return nil, fmt.Errorf("read attachment %s from the store: %w", w.Key, err)
		}
		out[string(w.Key)] = a
	}
	return out, nil
}

func (k keep) saveAttachment(a attachment) error {
	return k.Put(bucketAttachments, a.key(), encode(a))
}

func (k keep) dropAttachment(key string) error { return k.Put(bucketAttachments, key, nil) }

// SaveSysctl remembers the value that a sysctl had before weft changed it; the
// first one counts. It is what bridge asks of its caller.
func (k keep) SaveSysctl(key, value string) error {
	old, err := k.Get(bucketSysctls, key)
	if err != nil || old != nil {
		return err
	}
	return k.Put(bucketSysctls, key, []byte(value))
}

func (k keep) sysctls() (map[string]string, error) {
	all, err := k.All(bucketSysctls)
	out := make(map[string]string, len(all))
	for _, w := range all {
		out[string(w.Key)] = string(w.Value)
	}
	return out, err
}

// planStore keeps the address plan. It is what ipam asks of its caller.
type planStore struct{ *store.Store }

// Commit makes all of the plan's writes durable, or none.
func (p planStore) Commit(writes []ipam.Write) error {
	out := make([]store.Write, len(writes))
	for i, w := range writes {
		out[i] = store.Write{Bucket: bucketIPAM, Key: append([]byte(w.Bucket+"/"), w.Key...), Value: w.Value}
	}
	return p.Store.Commit(out)
}

// Load returns everything that was committed.
func (p planStore) Load() ([]ipam.Write, error) {
	all, err := p.All(bucketIPAM)
	if err != nil {
		return nil, err
	}
	out := make([]ipam.Write, len(all))
	for i, w := range all {
		bucket, key, ok := bytes.Cut(w.Key, []byte("/"))
		if !ok {
			return nil, fmt.Errorf("read address plan from the store: key %q has no bucket", w.Key)
		}
		out[i] = ipam.Write{Bucket: string(bucket), Key: key, Value: w.Value}
	}
	return out, nil
}
