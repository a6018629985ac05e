package cli

import (
	"encoding/json"
	"slices"
	"testing"
)

func TestCreatedContainerWaitsForItsInterface(t *testing.T) {
	image := imageConfig{Entrypoint: []string{"/entry"}, Cmd: []string{"serve"}}
	for name, tc := range map[string]struct {
		body        string
		image       imageConfig
		entry, args []string // after the wait
		ifname      string
	}{
		"what the image starts":         {`{}`, image, []string{"/entry"}, []string{"serve"}, "eth0"},
		"other arguments":               {`{"Cmd":["x","y"],"Entrypoint":null}`, image, []string{"/entry"}, []string{"x", "y"}, "eth0"},
		"another entry point":           {`{"Entrypoint":["sh"]}`, image, []string{"sh"}, nil, "eth0"},
		"another with arguments":        {`{"Entrypoint":["sh"],"Cmd":["-c","x"]}`, image, []string{"sh"}, []string{"-c", "x"}, "eth0"},
		"no entry point":                {`{"Entrypoint":[""],"Cmd":["x"]}`, image, nil, []string{"x"}, "eth0"},
		"an image without entry point":  {`{"Cmd":["x"]}`, imageConfig{}, nil, []string{"x"}, "eth0"},
		"the default network":           {`{"Cmd":["x"],"HostConfig":{"NetworkMode":"default"}}`, imageConfig{}, nil, []string{"x"}, "eth0"},
		"a network of Docker beside it": {`{"Cmd":["x"],"HostConfig":{"NetworkMode":"front"}}`, imageConfig{}, nil, []string{"x"}, "eth1"},
	} {
		s, err := parseCreate([]byte(tc.body))
		if err != nil {
			t.Fatal(err)
		}
		ifname, err := s.wait(tc.image, "/usr/local/bin/weft", "")
		entry := append([]string{"/.weft", "await", tc.ifname}, tc.entry...)
		args, _ := s.all["Cmd"].([]string)
		if err != nil || ifname != tc.ifname || !slices.Equal(s.all["Entrypoint"].([]string), entry) || !slices.Equal(args, tc.args) {
			t.Errorf("%s: %q, %v, entry point %q, arguments %q", name, ifname, err, s.all["Entrypoint"], s.all["Cmd"])
		}
		if b := s.host["Binds"].([]any); len(b) != 1 || b[0] != "/usr/local/bin/weft:/.weft:ro" {
			t.Errorf("%s: binds %v", name, b)
		}
		if mode := s.host["NetworkMode"]; (ifname == "eth0") != (mode == "none") {
			t.Errorf("%s: network %v", name, mode)
		}
	}
	for _, mode := range []string{"host", "container:x"} {
		s, _ := parseCreate([]byte(`{"HostConfig":{"NetworkMode":"` + mode + `"}}`))
		if _, err := s.wait(image, "/weft", ""); err == nil {
			t.Errorf("network %s is taken", mode)
		}
	}
}

func TestCreateLeavesAlone(t *testing.T) {
	s, err := parseCreate([]byte(`{"Image":"a/b:c","Future":{"N":12345678901234567890},"HostConfig":{"Memory":9007199254740993,"Binds":["/a:/b"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if ifname, err := s.wait(imageConfig{}, "/weft", "net0"); ifname != "net0" || err != nil || s.image() != "a/b:c" {
		t.Errorf("%q, %v, %q", ifname, err, s.image())
	}
	b, _ := json.Marshal(s.all)
	const want = `{"Future":{"N":12345678901234567890},"HostConfig":{"Binds":["/a:/b"],"Memory":9007199254740993,"NetworkMode":"none"},"Image":"a/b:c","NetworkingConfig":{}}`
	if string(b) != want {
		t.Errorf("passed on as %s; want %s", b, want)
	}
}

func FuzzParseCreate(f *testing.F) {
	f.Add([]byte(`{"Cmd":["x"],"Entrypoint":[""],"HostConfig":{"NetworkMode":"default","Binds":null}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseCreate(b)
		if err != nil {
			return
		}
		if _, err := s.wait(imageConfig{Cmd: []string{"x"}}, "/weft", ""); err == nil {
			if _, err := json.Marshal(s.all); err != nil {
				t.Errorf("%q cannot be passed on: %v", b, err)
			}
		}
	})
}
