package mesh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestTargetsAreCheckedBeforeAnythingIsLookedUp(t *testing.T) {
	for _, good := range []string{"192.0.2.1", "192.0.2.1:7000", "2001:db8::1", "[2001:db8::1]", "[2001:db8::1]:7000", "seeds.example", "seeds.example:6783",
		"file:/etc/weft/peers", "exec:/usr/bin/discover addrs region=eu"} {
		if err := CheckTarget(good); err != nil {
			t.Errorf("CheckTarget(%q) = %v", good, err)
		}
	}
	for bad, says := range map[string]string{
		"": "not a host", "a b": "not a host", "a/b": "not a host", "host:0": "not a host", "host:70000": "not a host", "a:b:c": "not a host",
		"file:peers": "absolute path", "exec:": "absolute path", "exec:discover": "absolute path", "provider=aws tag_key=x": "exec:", "caf\xe9": "printed", "caf\ufffd": "printed", "exec:/bin/x\x1b": "printed",
	} {
		if err := CheckTarget(bad); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("CheckTarget(%q) = %v", bad, err)
		}
	}
}

func TestATargetLeadsToAddresses(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	list := write("list", "# the first rack\n192.0.2.2, 192.0.2.1\t# two\n\n[2001:db8::1]:7\n192.0.2.1\n", 0o600)
	good := write("good", "#!/bin/sh\necho $1\necho 192.0.2.9:1\n", 0o700)
	bad := write("bad", "#!/bin/sh\necho 'no credentials' >&2\nexit 3\n", 0o700)
	wrong := write("wrong", "192.0.2.1\nno such: line\n", 0o600)
	f := Finder{Port: 6783}
	wide := write("wide", strings.Repeat(" ", 100<<10)+"192.0.2.1", 0o600)
	huge := write("huge", strings.Repeat(" ", maxListing)+"192.0.2.1", 0o600)
	pipe := filepath.Join(dir, "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	empty := write("empty", "# nobody\n", 0o600)
	for target, want := range map[string][]string{
		"192.0.2.1":             {"192.0.2.1:6783"},
		"[2001:db8::1]:7":       {"[2001:db8::1]:7"},
		"file:" + list:          {"192.0.2.1:6783", "192.0.2.2:6783", "[2001:db8::1]:7"},
		"file:" + wide:          {"192.0.2.1:6783"},
		"exec:" + good + " ::1": {"192.0.2.9:1", "[::1]:6783"},
	} {
		if got, err := f.Lookup(t.Context(), target); err != nil || !slices.Equal(got, want) {
			t.Errorf("Lookup(%q) = %v, %v; want %v", target, got, err, want)
		}
	}
	if got, err := f.Lookup(t.Context(), "localhost:7"); err != nil || !slices.Contains(got, "127.0.0.1:7") {
		t.Errorf("Lookup of a name = %v, %v", got, err)
	}
	for target, says := range map[string]string{
		"file:" + dir + "/none": "no such file", "exec:" + bad: "no credentials", "file:" + wrong: "not a host", "exec:" + dir + "/none": "no such file", "file:" + empty: "no host",
		"file:" + huge: "more than", "file:" + pipe: "no regular file",
	} {
		if got, err := f.Lookup(t.Context(), target); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Lookup(%q) = %v, %v", target, got, err)
		}
	}
}

func FuzzListing(f *testing.F) {
	f.Add([]byte("192.0.2.1 # one\nhost.example:1,[::1]:2\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		hosts, err := listed(text, nil)
		for _, h := range hosts {
			if err == nil && checkHost(h) != nil {
				t.Errorf("%q was taken", h)
			}
		}
	})
}
