package daemon

import (
	"testing"

	"github.com/weft-net/weft/api"
)

func TestReferenceSaysWhatItIs(t *testing.T) {
	for ref, want := range map[string][2]string{
		"c1": {"", "c1"}, "4711": {"", "4711"}, "/proc/1/ns/../ns/net": {kindPath, "/proc/1/ns/net"},
		"docker:web": {"docker", "web"}, "podman:web": {"podman", "web"}, "containerd:k8s.io/0123": {"containerd", "k8s.io/0123"},
		"netns:4711": {kindNetns, "4711"}, "pid:4711": {kindPID, "4711"}, "a:b": {"", "a:b"},
	} {
		if kind, rest, err := splitReference(ref); kind != want[0] || rest != want[1] || err != nil {
			t.Errorf("%q is %q, %q, %v; want %q", ref, kind, rest, err, want)
		}
	}
	for _, ref := range []string{"", "a/b", "..", "-3", "0", "pid:web", "pid:-1", "docker:", "docker:a/b", "netns:..", "a\x00b"} {
		if kind, rest, err := splitReference(ref); api.CodeOf(err) != api.CodeInvalid {
			t.Errorf("%q is %q, %q, %v; want a refusal", ref, kind, rest, err)
		}
	}
}

func TestContainerIsCalledByWhatIsRememberedOfIt(t *testing.T) {
	const id = "4b6e1b5a3bf0a1b9f1d8f0e5c0a3d2b4c1e5f6a7b8c9d0e1f2a3b4c5d6e7f809"
	web := attachment{Reference: "shop", Engine: "docker", ID: id, Name: "web", NetNS: "/proc/7/ns/net"}
	plain := attachment{Reference: "c1", NetNS: "/run/netns/c1"}
	for _, tc := range []struct {
		a    attachment
		ref  string
		want bool
	}{
		{web, "web", true}, {web, "docker:web", true}, {web, "shop", true}, {web, id, true}, {web, id[:6], true}, {web, "docker:" + id[:12], true},
		{web, id[:5], false}, {web, "podman:web", false}, {web, "netns:web", false}, {web, "we", false}, {web, "/proc/7/ns/net", true}, {web, "pid:7", true},
		{plain, "c1", true}, {plain, "netns:c1", true}, {plain, "/run/netns/c1", true}, {plain, "docker:c1", false}, {plain, "c", false},
	} {
		kind, rest, err := splitReference(tc.ref)
		if got := tc.a.isCalled(tc.ref, kind, rest); got != tc.want || err != nil {
			t.Errorf("%q means %s: %v, %v; want %v", tc.ref, tc.a.label(), got, err, tc.want)
		}
	}
}
