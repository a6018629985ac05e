package engine

import (
	"strings"
	"testing"
)

const someID = "4b6e1b5a3bf0a1b9f1d8f0e5c0a3d2b4c1e5f6a7b8c9d0e1f2a3b4c5d6e7f809"

func TestDescriptionIsReadAsDockerAndPodmanWriteIt(t *testing.T) {
	for in, want := range map[string]Container{
		`{"Id":"` + someID + `","Name":"/web","State":{"Status":"running","Running":true,"Pid":7},"HostConfig":{"NetworkMode":"none"}}`:       {Engine: Docker, ID: someID, Name: "web", State: "running", PID: 7},
		`{"Id":"` + someID + `","Name":"web","State":{"Status":"exited","Pid":0},"HostConfig":{"NetworkMode":"bridge"}}`:                      {Engine: Docker, ID: someID, Name: "web", State: "exited"},
		`{"Id":"` + someID + `","Name":"","State":{"Status":"running","Pid":8},"HostConfig":{"NetworkMode":"host"}}`:                          {Engine: Docker, ID: someID, Name: someID, State: "running", PID: 8, OnHost: true},
		`{"Id":"` + someID + `","Name":"/side","State":{"Status":"running","Pid":9},"HostConfig":{"NetworkMode":"container:` + someID + `"}}`: {Engine: Docker, ID: someID, Name: "side", State: "running", PID: 9, Joined: someID},
	} {
		if got, err := decode(Docker, []byte(in)); got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
	for _, in := range []string{``, `[]`, `{}`, `{"Id":"../x"}`, `{"Id":"a","State":{"Pid":-1}}`, `{"Id":7}`} {
		if got, err := decode(Docker, []byte(in)); err == nil {
			t.Errorf("%s was read as %+v", in, got)
		}
	}
}

func TestBundleTellsWhoseNetworkItIs(t *testing.T) {
	const own, host = `"linux":{"namespaces":[{"type":"pid"},{"type":"network"}]}`, `"linux":{"namespaces":[{"type":"pid"}]}`
	for in, want := range map[string]Container{
		`{` + own + `}`:  {ID: "k8s.io/a", Name: "a"},
		`{` + host + `}`: {ID: "k8s.io/a", Name: "a", OnHost: true},
		`{}`:             {ID: "k8s.io/a", Name: "a", OnHost: true},
		`{` + own + `,"annotations":{"nerdctl/name":"web"}}`:                                                                                               {ID: "k8s.io/a", Name: "web"},
		`{` + own + `,"annotations":{"io.kubernetes.cri.sandbox-id":"a","io.kubernetes.cri.sandbox-name":"pod"}}`:                                          {ID: "k8s.io/a", Name: "pod"},
		`{` + own + `,"annotations":{"io.kubernetes.cri.sandbox-id":"b","io.kubernetes.cri.container-name":"app","io.kubernetes.cri.sandbox-name":"pod"}}`: {ID: "k8s.io/a", Name: "app", Joined: "k8s.io/b"},
		`{` + own + `,"annotations":{"io.kubernetes.cri.sandbox-id":"../b"}}`:                                                                              {ID: "k8s.io/a", Name: "a"},
	} {
		want.Engine, want.State = Containerd, "running"
		if got, err := decodeBundle("k8s.io", "a", []byte(in)); got != want || err != nil {
			t.Errorf("%s: %+v, %v; want %+v", in, got, err, want)
		}
	}
}

func TestEventsAreReadUntilTheyEnd(t *testing.T) {
	var got []string
	err := follow(Docker, strings.NewReader(`{"id":"a","status":"start"}{"ID":"b"}
		{"Actor":{"ID":"c"}} {"id":`), func(id string) { got = append(got, id) })
	if strings.Join(got, "") != "abc" || !IsSilent(err) {
		t.Errorf("%q, %v", got, err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"Id":"a","Name":"/web","State":{"Status":"running","Running":true,"Pid":7},"HostConfig":{"NetworkMode":"container:b"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		if c, err := decode(Docker, b); err == nil && (!reference().MatchString(c.ID) || c.PID < 0 || c.Name == "") {
			t.Errorf("%q was read as %+v", b, c)
		}
	})
}

func FuzzDecodeBundle(f *testing.F) {
	f.Add([]byte(`{"linux":{"namespaces":[{"type":"network"}]},"annotations":{"io.kubernetes.cri.sandbox-id":"b","nerdctl/name":"web"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeBundle("default", "a", b)
		if err == nil && (c.ID != "default/a" || !reference().MatchString(c.Name) || strings.Count(c.Joined, "/") > 1) {
			t.Errorf("%q was read as %+v", b, c)
		}
	})
}
