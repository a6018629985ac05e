package daemon

import (
	"errors"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/store"
	"github.com/weft-net/weft/mesh"
)

// newState is a peer's state, and a state directory that holds it.
func newState(t testing.TB) (peerState, string) {
	t.Helper()
	id, err := mesh.NewIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p := peerState{identity: id, settings: foundingSettings(DefaultOptions()), targets: []string{"a", "b"}, host: HostOptions{Bridge: "wb"}}
	if p.token, err = mesh.NewToken(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	change(t, dir, func(k keep) error { return k.savePeer(p, "machine", whereRun{}) })
	return p, dir
}

// change opens a store, whatever is in it.
func change(t testing.TB, dir string, f func(keep) error) {
	t.Helper()
	s, err := store.Open(dir, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f(keep{s}), s.Close()); err != nil {
		t.Fatal(err)
	}
}

var someAttachment = attachment{Reference: "c1", Cookie: 7, Interface: "eth0", Address: netip.MustParseAddr("10.32.0.2")}

func TestPeerIsReadBack(t *testing.T) {
	want, dir := newState(t)
	change(t, dir, func(k keep) error { return k.saveAttachment(someAttachment) })
	k, got, ok, err := openKeep(dir, false)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	defer k.Close()
	if got.identity.ID != want.identity.ID || got.token != want.token || !reflect.DeepEqual(got.settings, want.settings) || !reflect.DeepEqual(got.host, want.host) || len(got.targets) != 2 {
		t.Errorf("read back as %+v; want %+v", got, want)
	}
}

func TestEmptyStoreIsOfNoPeer(t *testing.T) {
	k, _, ok, err := openKeep(t.TempDir(), true)
	if ok || err != nil {
		t.Fatal(ok, err)
	}
	k.Close()
}

func TestUnreadableStoreIsRefusedWithWhatToDoAndKept(t *testing.T) {
	for name, tc := range map[string]struct {
		want   string
		damage func(keep) error
	}{
		"part of a peer":       {"token is missing", func(k keep) error { return k.Put(bucketPeer, keyToken, nil) }},
		"no identity":          {"identity", func(k keep) error { return k.Put(bucketPeer, keyIdentity, []byte("me")) }},
		"no targets":           {"targets", func(k keep) error { return k.Put(bucketPeer, keyTargets, []byte{0xff}) }},
		"no snapshot":          {"remembered peers", func(k keep) error { return k.Put(bucketPeer, keySnapshot, []byte{0xff}) }},
		"no attachment":        {`attachment "x"`, func(k keep) error { return k.Put(bucketAttachments, "x", []byte{0xff}) }},
		"another's attachment": {"it is of netns:", func(k keep) error { return k.Put(bucketAttachments, "x", encode(someAttachment)) }},
		"no plan":              {"address plan", func(k keep) error { return k.Put(bucketIPAM, "table/rows", []byte{0xff}) }},
		"no key of a plan":     {"has no bucket", func(k keep) error { return k.Put(bucketIPAM, "rows", []byte{}) }},
		"no peer": {"no peer", func(k keep) error {
			all, err := k.All(bucketPeer)
			for _, w := range all {
				err = errors.Join(err, k.Put(bucketPeer, string(w.Key), nil))
			}
			return errors.Join(err, k.saveAttachment(someAttachment))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			_, dir := newState(t)
			change(t, dir, tc.damage)
			was, err := os.ReadFile(filepath.Join(dir, "weft.db"))
			if err != nil {
				t.Fatal(err)
			}
			_, _, _, err = openKeep(dir, true)
			if !unreadable(err) {
				t.Fatalf("openKeep = %v", err)
			}
			told := explainStore(err, "do this")
			if s := told.Error(); !strings.Contains(s, tc.want) || !strings.HasSuffix(s, "do this") || strings.Contains(s, "\n") {
				t.Errorf("the user is told %q; want one line with %q", s, tc.want)
			}
			if is, err := os.ReadFile(filepath.Join(dir, "weft.db")); err != nil || string(is) != string(was) {
				t.Errorf("the store was changed (%v)", err)
			}
		})
	}
}

func TestStoreOfANewerWeftIsNotUnreadable(t *testing.T) {
	for name, err := range map[string]error{
		"its format":            &store.VersionError{Path: "/x/weft.db", Version: 9},
		"its mesh's settings":   &api.Error{Code: api.CodeFailed, Message: "m", Fix: "upgrade"},
		"one that is in use":    &store.LockedError{Dir: "/x"},
		"one that is not there": store.ErrNotFound,
	} {
		if unreadable(err) {
			t.Errorf("%s: it would be set aside", name)
		}
		if s := explainStore(err, "set it aside").Error(); strings.Contains(s, "set it aside") {
			t.Errorf("%s: the user is told %q", name, s)
		}
	}
}

// FuzzStoredValues puts any bytes where the store has a value: they are taken
// or refused in one line, and what is taken can be written and read again.
func FuzzStoredValues(f *testing.F) {
	p, dir := newState(f)
	good := map[string][]byte{}
	change(f, dir, func(k keep) error {
		all, err := k.All(bucketPeer)
		for _, w := range all {
			good[string(w.Key)] = w.Value
		}
		return err
	})
	for key, value := range good {
		f.Add(key, value)
	}
	f.Add(keySnapshot, []byte{0x82, 1, 0x80})
	f.Add(someAttachment.key(), encode(someAttachment))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		kept := []store.Write{{Bucket: bucketAttachments, Key: []byte(key), Value: value}}
		if all, err := decodeAttachments(kept); err == nil {
			kept[0].Value = encode(all[key])
			if again, err := decodeAttachments(kept); err != nil || len(again) != 1 {
				t.Errorf("%+v was read and is not again: %v", all[key], err)
			}
		} else if !unreadable(err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("refused with %q", err)
		}
		values := maps.Clone(good)
		values[key] = value
		got, err := decodePeer(values)
		if err != nil && strings.Contains(explainStore(err, "fix").Error(), "\n") {
			t.Errorf("refused with %q", err)
		}
		if err == nil && key != keyIdentity && got.identity.ID != p.identity.ID {
			t.Errorf("%s made another peer of it", key)
		}
	})
}

func TestSysctlsOfADeviceGoWithItsName(t *testing.T) {
	_, dir := newState(t)
	change(t, dir, func(k keep) error {
		for _, key := range []string{"ipv4/conf/eth0/rp_filter", "ipv4/conf/eth0/forwarding", "ipv4/conf/eth01/rp_filter", "ipv4/ip_forward"} {
			if err := k.SaveSysctl(key, key); err != nil {
				return err
			}
		}
		return k.RenameDevice("eth0", "ens3")
	})
	change(t, dir, func(k keep) error {
		got, err := k.sysctls()
		want := map[string]string{"ipv4/conf/ens3/rp_filter": "ipv4/conf/eth0/rp_filter", "ipv4/conf/ens3/forwarding": "ipv4/conf/eth0/forwarding",
			"ipv4/conf/eth01/rp_filter": "ipv4/conf/eth01/rp_filter", "ipv4/ip_forward": "ipv4/ip_forward"}
		if !maps.Equal(got, want) {
			t.Errorf("%v", got)
		}
		return err
	})
}
