package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/nl"
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
	keyRun            = "run" // where a daemon ran last; see whereRun
	keyToken          = "token"
	keySettings       = "settings"
	keyTargets        = "targets"
	keyLaunched       = "targets-launched" // those that a launch was given last; none before one was
	keySnapshot       = "snapshot"
	keyHost           = "host"
	keyTunnelKey      = "tunnel-key" // of a weft that has one slot only; now keySlots
	keySlots          = "tunnel-slots"
	keyCNI            = "cni"    // of a weft that kept it here; now cnifiles.Note
	keyTokens         = "tokens" // of a change of the token; none before the first
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
	tokens   *mesh.Tokens // of a change of the token; nil before the first
	settings settings
	targets  []string
	launched []string // the targets that a launch was given last
	snapshot []byte
	host     HostOptions  // as they were given
	slots    []encap.Slot // of this host's WireGuard, the older first
}

// peer reads the peer's state; ok is false where there is none yet.
func (k keep) peer() (p peerState, ok bool, err error) {
	all, err := k.All(bucketPeer)
	if err != nil {
		return p, false, err
	}
	if len(all) == 0 {
		return p, false, k.checkEmpty()
	}
	values := make(map[string][]byte, len(all))
	for _, w := range all {
		values[string(w.Key)] = w.Value
	}
	p, err = decodePeer(values)
	if err == nil {
		_, err = k.attachments()
	}
	if err == nil {
		err = k.checkPlan(p)
	}
	return p, true, err
}

// decodePeer reads the values of the peer's bucket. All but the snapshot are
// written in one step, so that none of them can be missing.
func decodePeer(values map[string][]byte) (p peerState, err error) {
	for _, v := range []struct {
		key  string
		into func([]byte) error
	}{
		{keyIdentity, p.identity.UnmarshalBinary},
		{keyMachine, func([]byte) error { return nil }},
		{keyToken, func(b []byte) (err error) { p.token, err = mesh.ParseToken(string(b)); return err }},
		{keySettings, func(b []byte) (err error) { p.settings, err = decodeSettings(b); return err }},
		{keyTargets, func(b []byte) error { return strict.Unmarshal(b, &p.targets) }},
		{keyHost, func(b []byte) error { return strict.Unmarshal(b, &p.host) }},
		{keyLaunched, func(b []byte) error { return strict.Unmarshal(b, &p.launched) }},
		{keyTunnelKey, p.setTunnelKey},
		{keySlots, p.setSlots},
	} {
		b, ok := values[v.key]
		if !ok && (v.key == keyTunnelKey || v.key == keySlots || v.key == keyLaunched) {
			continue // of before there was such a thing; the next launch makes one
		}
		if !ok {
			return p, &unreadableError{fmt.Errorf("%s is missing", v.key)}
		}
		err := v.into(b)
		var known *api.Error
		if errors.As(err, &known) {
			return p, err // what a newer weft knows of the mesh: an upgrade helps
		}
		if err != nil {
			return p, &unreadableError{fmt.Errorf("%s: %w", v.key, err)}
		}
	}
	if b, ok := values[keyTokens]; ok {
		p.tokens = &mesh.Tokens{}
		if err := p.tokens.UnmarshalBinary(b); err != nil {
			return p, &unreadableError{fmt.Errorf("%s: %w", keyTokens, err)}
		}
	}
	if b, ok := values[keySnapshot]; ok {
		if _, err := mesh.Remembered(b, p.token, p.identity.ID, nil); err != nil {
			return p, &unreadableError{err}
		}
		p.snapshot = b
	}
	return p, nil
}

// checkEmpty makes sure that there is nothing without a peer that it is of.
func (k keep) checkEmpty() error {
	for _, bucket := range []string{bucketAttachments, bucketSysctls, bucketIPAM} {
		all, err := k.All(bucket)
		if err != nil {
			return err
		}
		if len(all) > 0 {
			return &unreadableError{fmt.Errorf("it has %s and no %s", bucket, bucketPeer)}
		}
	}
	return nil
}

// others counts the peers that this host remembers and that are in the mesh.
func (k keep) others(p peerState) (int, error) {
	saved, err := planStore(k).Load()
	if err != nil {
		return 0, err
	}
	removed, err := ipam.Removed(p.planConfig(), saved)
	if err != nil {
		return 0, err
	}
	return mesh.Remembered(p.snapshot, p.token, p.identity.ID, removed)
}

// planConfig is what the peer's address plan is made of.
func (p peerState) planConfig() ipam.Config {
	return ipam.Config{Peer: p.identity.ID, Mesh: p.token.MeshID, Range: p.settings.Range, BlockBits: p.settings.BlockBits}
}

// checkPlan finds out whether the address plan can be read.
func (k keep) checkPlan(p peerState) error {
	saved, err := planStore(k).Load()
	if err != nil {
		return err
	}
	switch err := ipam.Readable(p.planConfig(), saved); {
	case errors.Is(err, ipam.ErrNewer):
		return &api.Error{Code: api.CodeFailed, Message: "the address plan in the store was written by a newer weft: " + oneLine(err),
			Fix: "run that weft again"}
	case err != nil:
		return &unreadableError{fmt.Errorf("address plan: %w", err)}
	}
	return nil
}

// savePeer makes a new peer's state durable, in one step.
func (k keep) savePeer(p peerState, machine string, run whereRun) error {
	id, err := p.identity.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	put := func(key string, v []byte) store.Write {
		return store.Write{Bucket: bucketPeer, Key: []byte(key), Value: v}
	}
	return k.Commit(append(slotWrites(p.slots),
		put(keyIdentity, id), put(keyMachine, []byte(machine)), put(keyRun, encode(run)), put(keyToken, []byte(p.token.String())),
		put(keySettings, encode(p.settings)), put(keyTargets, encode(p.targets)), put(keyLaunched, encode(p.launched)), put(keyHost, encode(p.host)),
	))
}

// saveGiven makes durable what a later launch was given anew, and a key that
// was made for it because an older weft had none.
func (k keep) saveGiven(p peerState) error {
	return k.Commit(append(slotWrites(p.slots),
		store.Write{Bucket: bucketPeer, Key: []byte(keyHost), Value: encode(p.host)},
		store.Write{Bucket: bucketPeer, Key: []byte(keyTargets), Value: encode(p.targets)},
		store.Write{Bucket: bucketPeer, Key: []byte(keyLaunched), Value: encode(p.launched)},
	))
}

// saveTokens makes a step of a change of the token durable.
func (k keep) saveTokens(t mesh.Tokens) error {
	b, err := t.MarshalBinary()
	if err != nil {
		return fmt.Errorf("encode tokens: %w", err)
	}
	return k.Commit([]store.Write{
		{Bucket: bucketPeer, Key: []byte(keyToken), Value: []byte(t.Use.String())},
		{Bucket: bucketPeer, Key: []byte(keyTokens), Value: b},
	})
}

func (k keep) saveTargets(targets []string) error {
	return k.Put(bucketPeer, keyTargets, encode(targets))
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
	// More are further addresses of the interface.
	More []netip.Addr `cbor:"8,keyasint,omitempty"`
	// Engine, ID and Name say which container it is, where an engine knows it;
	// then it is followed through restarts.
	Engine string `cbor:"20,keyasint,omitempty"`
	ID     string `cbor:"21,keyasint,omitempty"`
	Name   string `cbor:"22,keyasint,omitempty"`
	// Boot is the kernel's id of this run of the machine: cookies and process
	// ids begin anew with the next.
	Boot string `cbor:"23,keyasint,omitempty"`
	// Released tells that the container is stopped and its addresses are no
	// longer its own.
	Released bool `cbor:"24,keyasint,omitempty"`
	// Subnets that addresses were asked for in.
	Subnets   []netip.Prefix  `cbor:"26,keyasint,omitempty"`
	Published []publishedPort `cbor:"27,keyasint,omitempty"`
	// Network and Sandbox are set for what a container runtime attached; see
	// endpoint.
	Network string `cbor:"30,keyasint,omitempty"`
	Sandbox string `cbor:"31,keyasint,omitempty"`
	// MAC and MTU, if they are set, are the runtime's wishes.
	MAC net.HardwareAddr `cbor:"32,keyasint,omitempty"`
	MTU int              `cbor:"33,keyasint,omitempty"` // bytes
}

// addresses are all of the attachment's.
func (a attachment) addresses() []netip.Addr { return append([]netip.Addr{a.Address}, a.More...) }

// owner names the container, or else the namespace.
func (a attachment) owner() string { return ownerName(a.Engine, a.ID, a.Cookie) }

func (a attachment) key() string { return a.owner() + "/" + a.Interface }

func (k keep) attachments() (map[string]attachment, error) {
	all, err := k.All(bucketAttachments)
	if err != nil {
		return nil, err
	}
	return decodeAttachments(all)
}

func decodeAttachments(kept []store.Write) (map[string]attachment, error) {
	out := make(map[string]attachment, len(kept))
	for _, w := range kept {
		var a attachment
		err := strict.Unmarshal(w.Value, &a)
		if err == nil && a.key() != string(w.Key) {
			err = fmt.Errorf("it is of %s", a.key())
		}
		if err != nil {
			return nil, &unreadableError{fmt.Errorf("attachment %q: %w", w.Key, err)}
		}
		out[string(w.Key)] = a
	}
	return out, nil
}

// cni is how this host presents itself to CNI runtimes, if a weft kept it here.
func (k keep) cni() (s api.CNISettings, ok bool, err error) {
	b, err := k.Get(bucketPeer, keyCNI)
	if err != nil || b == nil {
		return s, false, err
	}
	if err := strict.Unmarshal(b, &s); err != nil {
		return s, false, &unreadableError{fmt.Errorf("%s: %w", keyCNI, err)}
	}
	return s, true, nil
}

func (k keep) dropCNI() error { return k.Put(bucketPeer, keyCNI, nil) }

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

// RestoreSysctls writes back what these sysctls were before weft changed them,
// and forgets it. It is what encap asks of its caller.
func (k keep) RestoreSysctls(keys []string) error {
	var forget []store.Write
	for _, key := range keys {
		value, err := k.Get(bucketSysctls, key)
		if err != nil {
			return err
		}
		if value == nil {
			continue
		}
		if err := nl.SetSysctl(key, string(value)); err != nil && !errors.Is(err, nl.ErrNotFound) { // its device is gone
			return err
		}
		forget = append(forget, store.Write{Bucket: bucketSysctls, Key: []byte(key)})
	}
	return k.Commit(forget)
}

// RenameDevice makes what was saved of a device be that of its new name. It is what
// encap asks of its caller.
func (k keep) RenameDevice(old, now string) error {
	saved, err := k.sysctls()
	if err != nil {
		return err
	}
	var moved []store.Write
	for key, value := range saved {
		if renamed := strings.Replace(key, "/"+old+"/", "/"+now+"/", 1); renamed != key {
			moved = append(moved, store.Write{Bucket: bucketSysctls, Key: []byte(key)},
				store.Write{Bucket: bucketSysctls, Key: []byte(renamed), Value: []byte(value)})
		}
	}
	return k.Commit(moved)
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

// Commit makes all of the plan's records durable, or none.
func (p planStore) Commit(records []ipam.Record) error {
	return p.Store.Commit(planWrites(records))
}

// planWrites are the plan's records as the store has them.
func planWrites(records []ipam.Record) []store.Write {
	out := make([]store.Write, len(records))
	for i, r := range records {
		out[i] = store.Write{Bucket: bucketIPAM, Key: []byte(r.Bucket + "/" + r.Key), Value: r.Value}
	}
	return out
}

// Load returns everything that was committed.
func (p planStore) Load() ([]ipam.Record, error) {
	all, err := p.All(bucketIPAM)
	if err != nil {
		return nil, err
	}
	out := make([]ipam.Record, len(all))
	for i, w := range all {
		bucket, key, ok := strings.Cut(string(w.Key), "/")
		if !ok {
			return nil, &unreadableError{fmt.Errorf("address plan: key %q has no bucket", w.Key)}
		}
		out[i] = ipam.Record{Bucket: bucket, Key: key, Value: w.Value}
	}
	return out, nil
}
