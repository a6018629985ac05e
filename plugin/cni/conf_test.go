package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/weft-net/weft/api"
)

// isCode checks that an error is one of CNI with that code which says so.
func isCode(t *testing.T, what string, err error, code uint, says string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) || e.Code != code || !strings.Contains(e.Error(), says) {
		t.Errorf("%s: %v; want code %d that says %q", what, err, code, says)
	}
}

func TestANetworkThatSaysNothingHasTheDefaults(t *testing.T) {
	n, err := readNetwork([]byte(`{"cniVersion":"1.1.0","name":"weft","type":"weft-cni","somebody's":{"own":1}}`))
	if err != nil {
		t.Fatal(err)
	}
	if n.own.Socket != api.DefaultSocket || n.own.StateDir != defaultStateDir || n.timeout != 0 || n.subnet.IsValid() {
		t.Errorf("read: %+v", n.own)
	}
	req, err := n.attachRequest(&skel.CmdArgs{ContainerID: "c", IfName: "eth0", Netns: "/run/netns/c"})
	if err != nil || req.NoDefaultRoute || req.Address.IsValid() || req.MAC != "" || *req.Endpoint != (api.Endpoint{Network: "weft", Container: "c", Interface: "eth0"}) {
		t.Errorf("asks for %+v, %v", req, err)
	}
}

func TestWishesComeByCapabilityArgsAndEnvironment(t *testing.T) {
	for _, v := range []struct{ conf, args, addrs, mac string }{
		{conf: `{}`, addrs: "[]"},
		{conf: `{"runtimeConfig":{"ips":["10.32.0.5/12","10.32.0.6"],"mac":"02:00:00:00:00:01"}}`, addrs: "[10.32.0.5 10.32.0.6]", mac: "02:00:00:00:00:01"},
		{conf: `{"runtimeConfig":{"ips":["fd00::a20:5/108","::ffff:10.32.0.6","10.32.0.6"]}}`, addrs: "[fd00::a20:5 10.32.0.6]"},
		{conf: `{"args":{"cni":{"ips":["10.32.0.7"],"labels":[{"key":"a"}]}}}`, addrs: "[10.32.0.7]"},
		{conf: `{}`, args: "IgnoreUnknown=0;IP=10.32.0.8;K8S_POD_NAME=web;MAC=02:00:00:00:00:02", addrs: "[10.32.0.8]", mac: "02:00:00:00:00:02"},
		{conf: `{"runtimeConfig":{"ips":["10.32.0.5"],"mac":"02:00:00:00:00:01"},"args":{"cni":{"ips":["10.32.0.5","10.32.0.6"]}}}`,
			args: "IP=10.32.0.5/12;MAC=02:00:00:00:00:02", addrs: "[10.32.0.5 10.32.0.6]", mac: "02:00:00:00:00:01"},
	} {
		n, err := readNetwork([]byte(v.conf))
		if err != nil {
			t.Fatal(err)
		}
		addrs, mac, err := n.wishes(v.args)
		if err != nil || fmt.Sprint(addrs) != v.addrs || mac != v.mac {
			t.Errorf("%s with %q: %v, %q, %v", v.conf, v.args, addrs, mac, err)
		}
	}
}

func TestWhatMakesNoSenseIsRefusedWithTheCodeOfTheSpecification(t *testing.T) {
	for conf, code := range map[string]uint{
		`{`:                               types.ErrDecodingFailure,
		`[]`:                              types.ErrDecodingFailure,
		`{"mtu":"large"}`:                 types.ErrDecodingFailure,
		`{"mtu":68}`:                      types.ErrInvalidNetworkConfig,
		`{"subnet":"10.40.0.1/16"}`:       types.ErrInvalidNetworkConfig,
		`{"subnet":"x"}`:                  types.ErrInvalidNetworkConfig,
		`{"timeout":"-1s"}`:               types.ErrInvalidNetworkConfig,
		`{"ipam":{"type":"host-local"}}`:  types.ErrInvalidNetworkConfig,
		`{"ipam":{"subnet":"10.40.0.1"}}`: types.ErrInvalidNetworkConfig,
	} {
		_, err := readNetwork([]byte(conf))
		isCode(t, conf, err, code, "")
	}
	for conf, code := range map[string]uint{
		`{"runtimeConfig":{"ips":["fe80::1%a"]}}`: types.ErrInvalidNetworkConfig,
		`{"args":{"cni":{"ips":["10.32"]}}}`:      types.ErrInvalidNetworkConfig,
	} {
		n, err := readNetwork([]byte(conf))
		if err != nil {
			t.Fatal(err)
		}
		_, err = n.attachRequest(&skel.CmdArgs{})
		isCode(t, conf, err, code, "is not an IP address")
	}
	n, err := readNetwork([]byte(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = n.wishes("IP")
	isCode(t, "CNI_ARGS", err, types.ErrInvalidEnvironmentVariables, "CNI_ARGS")
}

func TestSettingsOfTheIPAMPluginStandInItsOwnSection(t *testing.T) {
	const conf = `{"name":"x","socket":"/not/this","mtu":10,"timeout":"nonsense","ipam":{"type":"weft-ipam","socket":"/s","stateDir":"/d","subnet":"10.40.0.0/16","timeout":"3s"}}`
	n, err := readIPAM([]byte(conf))
	if err != nil || n.own.Socket != "/s" || n.own.StateDir != "/d" || n.subnet.String() != "10.40.0.0/16" || n.timeout != 3*time.Second {
		t.Errorf("read %+v, %v", n, err)
	}
}

func TestCalledByNameOrByTheEnvironment(t *testing.T) {
	none := func(string) string { return "" }
	add := func(string) string { return "ADD" }
	for _, v := range []struct {
		arg0 string
		env  func(string) string
		want string
	}{
		{"/opt/cni/bin/weft-cni", none, Plugin}, {"weft-ipam", none, IPAM}, {"/usr/bin/weft", none, ""},
		{"weft", add, Plugin}, {"weft-ipam", add, IPAM}, {"", none, ""},
	} {
		if got := Called(v.arg0, v.env); got != v.want {
			t.Errorf("%q is %q; want %q", v.arg0, got, v.want)
		}
	}
}

func TestErrorsOfTheDaemonHaveTheCodesOfTheSpecification(t *testing.T) {
	for code, want := range map[api.Code]uint{
		api.CodeInvalid: 7, api.CodeNotFound: 3, api.CodeConflict: 100, api.CodeExhausted: 11, api.CodeTimeout: 11,
		api.CodeUnavailable: 11, api.CodeForbidden: 5, api.CodeFailed: 999,
	} {
		isCode(t, string(code), explain(fmt.Errorf("x: %w", &api.Error{Code: code, Message: "what", Fix: "do"})), want, "what; do")
	}
	isCode(t, "another", explain(errors.New("what")), 999, "what")
	if explain(nil) != nil {
		t.Error("no error is one")
	}
}

func TestStatusIsAboutADDOnThisHost(t *testing.T) {
	of := func(codes ...string) api.Status {
		var s api.Status
		for _, c := range codes {
			s.Health = append(s.Health, api.Warning{Code: c, Text: "it is " + c, Fix: "do"})
		}
		return s
	}
	if err := judge(of("peer-failed", "no-link", "traffic-not-encrypted")); err != nil {
		t.Errorf("another host's trouble: %v", err)
	}
	isCode(t, "store", judge(of("peer-failed", "store-not-written")), types.ErrPluginNotAvailable, "store-not-written; do")
	isCode(t, "kernel", judge(of("kernel-not-set", "plan-not-kept")), types.ErrLimitedConnectivity, "kernel-not-set; do")
}

func FuzzReadNetwork(f *testing.F) {
	f.Add([]byte(`{"name":"weft","ipam":{"type":"weft-ipam","routes":[{"dst":"0.0.0.0/0"}]},"cni.dev/valid-attachments":[{"containerID":"c","ifname":"e"}]}`), "IP=10.0.0.1;A=B")
	f.Add([]byte(`{"cniVersion":"1.0.0","prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/n"}],"ips":[{"interface":0,"address":"10.0.0.1/8"}]}}`), "")
	f.Add([]byte(`{"runtimeConfig":{"ips":["10.0.0.1"],"mac":"x"},"prevResult":{"ip4":{"ip":"1.2.3.4/5"}},"cniVersion":"0.2.0"}`), "MAC")
	f.Fuzz(func(t *testing.T, conf []byte, args string) {
		for _, read := range []func([]byte) (*network, error){readNetwork, readIPAM} {
			n, err := read(conf)
			if err != nil {
				continue
			}
			if n.own.Socket == "" || n.timeout < 0 || n.subnet.IsValid() && n.subnet != n.subnet.Masked() {
				t.Fatalf("taken: %+v", n)
			}
			req, err := n.attachRequest(&skel.CmdArgs{ContainerID: "c", IfName: "eth0", Netns: "/n", Args: args})
			if err == nil {
				if _, err := json.Marshal(req); err != nil {
					t.Fatal(err)
				}
			}
			if prev, err := n.previous(); err == nil && prev != nil {
				compare(prev, "eth0", api.Inspection{})
				n.result(prev, &skel.CmdArgs{Netns: "/n"}, api.Attachment{})
			}
		}
	})
}

func TestPortsAreWhatTheRuntimeMaps(t *testing.T) {
	for text, want := range map[string]string{
		`[]`: "[]",
		`[{"hostPort":8080,"containerPort":80,"protocol":"TCP","hostIP":"192.0.2.1"},{"hostPort":0,"containerPort":81,"protocol":"tcp"},{"hostPort":53,"containerPort":5353,"protocol":"udp"}]`: "[192.0.2.1:8080:80/tcp 53:5353/udp]",
		`[{"hostPort":8080,"containerPort":80,"hostIP":"here"}]`: `portMappings: "here" is not an address`,
	} {
		n, err := readNetwork([]byte(`{"cniVersion":"1.0.0","name":"weft","type":"weft-cni","runtimeConfig":{"portMappings":` + text + `}}`))
		if err != nil {
			t.Fatal(err)
		}
		ports, err := n.ports()
		got := fmt.Sprint(ports)
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}
