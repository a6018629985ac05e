package daemon

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
)

func TestDefaultOptionsAreValid(t *testing.T) {
	if err := DefaultOptions().Validate(); err != nil {
		t.Error(err)
	}
}

func TestValidateNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*Options){
		"state directory":  func(o *Options) { o.StateDir = "" },
		"socket's path is": func(o *Options) { o.Socket = "" },
		"longer than 107":  func(o *Options) { o.Socket = "/" + strings.Repeat("x", 107) },
		"the name":         func(o *Options) { o.Name = "two words" },
		"bridge's name":    func(o *Options) { o.Bridge = "much-too-long" },
		"is not known":     func(o *Options) { o.Encap = "geneve" },
		"cannot share":     func(o *Options) { o.VXLANPort = DefaultPort },
		"peers can reach":  func(o *Options) { o.Advertise = netip.MustParseAddr("0.0.0.0") },
		"an MTU of":        func(o *Options) { o.MTU = 100 },
		"not positive":     func(o *Options) { o.Timeout = 0 },
		"without a peer":   func(o *Options) { o.Token = "weft1-x" },
	} {
		o := DefaultOptions()
		change(&o)
		var e *api.Error
		if err := o.Validate(); !errors.As(err, &e) || e.Code != api.CodeInvalid || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestHostKeepsWhatItWasTold(t *testing.T) {
	no := false
	kept := HostOptions{Name: "kept", Port: 7000, Masquerade: &no, Advertise: netip.MustParseAddr("192.0.2.1")}
	var again HostOptions
	if err := strict.Unmarshal(encode(kept), &again); err != nil {
		t.Fatal(err)
	}
	got := HostOptions{Name: "given"}.or(again).or(defaultHost())
	if got.Name != "given" || got.Port != 7000 || *got.Masquerade || got.Advertise != kept.Advertise || got.Bridge != DefaultBridge || got.MTU != 0 {
		t.Errorf("given, kept, default: %+v", got)
	}
}

func TestSettingsAreReadBackAndForeignOnesRefused(t *testing.T) {
	s := foundingSettings(DefaultOptions())
	got, err := decodeSettings(encode(s))
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("read back as %+v, %v; want %+v", got, err, s)
	}
	if !bytes.Equal(encode(s), encode(got)) {
		t.Error("equal settings are not equal bytes")
	}
	newer := encode(map[int]any{1: s.Range, 2: s.BlockBits, 3: s.Encap, 4: s.VXLANPort, 6: "something new"})
	for name, b := range map[string][]byte{
		"nothing": nil, "noise": []byte("noise"), "newer": newer,
		"bad range": encode(settings{netip.MustParsePrefix("10.0.0.1/12"), 26, "vxlan", 1, nil}),
		"bad encap": encode(settings{s.Range, s.BlockBits, "pigeon", 1, nil}),
	} {
		if _, err := decodeSettings(b); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

func TestOptionsThatTheMeshContradictsAreRefused(t *testing.T) {
	s := foundingSettings(DefaultOptions())
	if err := s.agrees(DefaultOptions()); err != nil {
		t.Errorf("options that say nothing: %v", err)
	}
	o := DefaultOptions()
	o.VXLANPort = 4789
	if err := s.agrees(o); api.CodeOf(err) != api.CodeConflict {
		t.Errorf("another port: %v", err)
	}
}

func TestNamespacePath(t *testing.T) {
	for ref, want := range map[string]string{
		"c1": "/run/netns/c1", "4711": "/proc/4711/ns/net", "/proc/1/ns/../ns/net": "/proc/1/ns/net",
		"": "", "a/b": "", "..": "", "-3": "", "0": "",
	} {
		got, err := namespacePath(ref)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("namespacePath(%q) = %q, %v; want %q", ref, got, err, want)
		}
	}
}

func FuzzDecodeSettings(f *testing.F) {
	f.Add(encode(foundingSettings(DefaultOptions())))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeSettings(b); err == nil && !bytes.Equal(encode(s), b) {
			t.Errorf("%x was read as %+v", b, s)
		}
	})
}
