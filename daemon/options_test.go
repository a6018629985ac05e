package daemon

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
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
		"be printed":       func(o *Options) { o.Name = "caf\xe9" },
		"than 64 bytes":    func(o *Options) { o.Name = strings.Repeat("x", 65) },
		"bridge's name":    func(o *Options) { o.Bridge = "much-too-long" },
		"is not known":     func(o *Options) { o.Encap = "geneve" },
		"carried by":       func(o *Options) { o.WireGuard = "hand" },
		"and VXLAN cannot": func(o *Options) { o.VXLANPort = DefaultPort },
		"and WireGuard":    func(o *Options) { o.WireGuardPort = DefaultPort },
		"VXLAN and WireGuard cannot share port 7000":             func(o *Options) { o.VXLANPort, o.WireGuardPort = 7000, 7000 },
		"WireGuard and probes cannot share port 6786":            func(o *Options) { o.WireGuardPort = 6786 },
		"VXLAN and probes cannot share port 6786":                func(o *Options) { o.VXLANPort = 6786 },
		"gossip and probes cannot share port 6786":               func(o *Options) { o.Port = 6786 },
		"WireGuard and discovery by multicast cannot share port": func(o *Options) { o.WireGuardPort = 6787 },
		"peers can reach": func(o *Options) { o.Advertise = netip.MustParseAddr("0.0.0.0") },
		"an MTU of":       func(o *Options) { o.MTU = 100 },
		"not positive":    func(o *Options) { o.Timeout = 0 },
	} {
		o := DefaultOptions()
		change(&o)
		var e *api.Error
		if err := o.Validate(); !errors.As(err, &e) || e.Code != api.CodeInvalid || !strings.Contains(e.Message, want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

func TestNameOfAHostIsOneThatOthersTake(t *testing.T) {
	for hostname, want := range map[string]string{
		"h1": "h1", "café": "café", "caf\xe9": "caf-", "two words": "two-words", "a\x1b[31m": "a-[31m",
		strings.Repeat("é", 33): strings.Repeat("é", 32), "": "",
	} {
		got := clean(hostname)
		var back string
		if err := strict.Unmarshal(encode(got), &back); got != want || err != nil || back != got {
			t.Errorf("%q: %q, which is read back as %q, %v; want %q", hostname, got, back, err, want)
		}
	}
}

func TestMeshIsNotFoundedWithPortsThatClashWithDefaults(t *testing.T) {
	for port, want := range map[uint16]string{DefaultVXLANPort: "gossip and VXLAN", DefaultWGPort: "gossip and WireGuard", 7000: ""} {
		o := DefaultOptions()
		o.Port = port
		d := &Daemon{opts: o}
		err := d.decideSettings(&peerState{}, nil)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("gossip on port %d: %v; want %q", port, err, want)
		}
	}
}

func TestHostKeepsWhatItWasTold(t *testing.T) {
	no := false
	kept := HostOptions{Name: "kept", Port: 7000, Masquerade: &no, Advertise: netip.MustParseAddr("192.0.2.1"), WireGuard: WireGuardKernel}
	var again HostOptions
	if err := strict.Unmarshal(encode(kept), &again); err != nil {
		t.Fatal(err)
	}
	got := HostOptions{Name: "given"}.or(again).or(defaultHost())
	if got.Name != "given" || got.Port != 7000 || *got.Masquerade || got.Advertise != kept.Advertise || got.Bridge != DefaultBridge || got.MTU != 0 || got.WireGuard != WireGuardKernel {
		t.Errorf("given, kept, default: %+v", got)
	}
}

func TestWhatIsAutomaticIsNoLongerAsItWasKept(t *testing.T) {
	one, other := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	kept := HostOptions{Name: "kept", Port: 7000, MTU: 1400, Subnet: netip.MustParsePrefix("10.33.0.0/16"), Advertise: one, AdvertiseAlso: []netip.Addr{other}, AdvertiseSecond: other}
	got := HostOptions{}.or(kept.without(Automatic{Name: true, Advertise: true, MTU: true, Subnet: true}))
	if want := (HostOptions{Port: 7000}); !reflect.DeepEqual(got, want) {
		t.Errorf("all of it: %+v", got)
	}
	if got := (HostOptions{Name: "given"}).or(kept.without(Automatic{MTU: true})); got.Name != "given" || got.MTU != 0 || len(got.advertised()) != 2 || got.Subnet != kept.Subnet {
		t.Errorf("one of it: %+v", got)
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
	newer := encode(map[int]any{1: s.Range, 2: s.BlockBits, 3: s.Encap, 4: s.VXLANPort, 5: s.WireGuardPort, 7: "something new"})
	for name, b := range map[string][]byte{
		"nothing": nil, "noise": []byte("noise"), "newer": newer,
		"bad range": encode(settings{netip.MustParsePrefix("10.0.0.1/12"), 26, "vxlan", 1, 2, nil, false}),
		"bad encap": encode(settings{s.Range, s.BlockBits, "pigeon", 1, 2, nil, false}),
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
	for what, change := range map[string]func(*Options){
		"VXLAN port is 6784":     func(o *Options) { o.VXLANPort = 4789 },
		"WireGuard port is 6785": func(o *Options) { o.WireGuardPort = 51820 },
		"is auto, not vxlan":     func(o *Options) { o.Encap = string(encap.ModeVXLAN) },
		"IPv6 is on, not off":    func(o *Options) { o.NoIPv6 = true },
	} {
		o := DefaultOptions()
		change(&o)
		if err := s.agrees(o); api.CodeOf(err) != api.CodeConflict || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
	o := DefaultOptions()
	o.Encap = s.Encap
	if err := s.agrees(o); err != nil {
		t.Errorf("the mesh's own encapsulation: %v", err)
	}
}

func TestMeshIsEncryptedUnlessItIsFoundedOtherwise(t *testing.T) {
	for asked, want := range map[string]encap.Mode{"": encap.ModeAuto, "auto": encap.ModeAuto, "wireguard": encap.ModeWireGuard, "vxlan": encap.ModeVXLAN, "direct": encap.ModeDirect} {
		o := DefaultOptions()
		o.Encap = asked
		s := foundingSettings(o)
		if s.mode() != want || s.port(encap.TransportWireGuard) != DefaultWGPort || s.port(encap.TransportVXLAN) != DefaultVXLANPort || s.port(encap.TransportDirect) != 0 {
			t.Errorf("--encap %q founds %+v", asked, s)
		}
		if again, err := decodeSettings(encode(s)); err != nil || again.mode() != want {
			t.Errorf("--encap %q is read back as %+v, %v", asked, again, err)
		}
	}
}

func TestSettingsOfAMeshFromBeforeWireGuardAreRead(t *testing.T) {
	old := encode(map[int]any{1: DefaultRange, 2: 26, 3: string(encap.ModeVXLAN), 4: DefaultVXLANPort})
	if s, err := decodeSettings(old); err != nil || s.Encap != string(encap.ModeVXLAN) || s.WireGuardPort != 0 {
		t.Errorf("%+v, %v", s, err)
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
