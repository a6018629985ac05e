package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/weft-net/weft/internal/netlab"
)

// onHost has libcni, which container engines are made of, run plugins on a host.
type onHost struct {
	h *netlab.Host
	*version.PluginDecoder
}

func (e onHost) ExecPlugin(_ context.Context, program string, stdin []byte, environ []string) ([]byte, error) {
	args := []string{"env"}
	for _, v := range environ {
		if strings.HasPrefix(v, "CNI_") {
			args = append(args, v)
		}
	}
	r := e.h.Feed(string(stdin), append(args, program)...)
	if r.Code == 0 {
		return []byte(r.Stdout), nil
	}
	said := &types.Error{Msg: r.Stdout + r.Stderr}
	_ = json.Unmarshal([]byte(r.Stdout), said) // else it stays what was printed
	return nil, said
}

func (onHost) FindInPath(plugin string, paths []string) (string, error) {
	return path.Join(paths[0], plugin), nil
}

// engine is libcni with a network on a host.
type engine struct {
	t    *testing.T
	cni  *libcni.CNIConfig
	list *libcni.NetworkConfigList
}

func newEngine(t *testing.T, h *netlab.Host, conflist string) engine {
	t.Helper()
	list, err := libcni.ConfListFromBytes([]byte(conflist))
	if err != nil {
		t.Fatal(err)
	}
	return engine{t, libcni.NewCNIConfigWithCacheDir([]string{cniBin}, t.TempDir(), onHost{h, &version.PluginDecoder{}}), list}
}

func attachment(id string, capabilities map[string]any) *libcni.RuntimeConf {
	return &libcni.RuntimeConf{ContainerID: id, NetNS: "/run/netns/" + id, IfName: "eth0", CapabilityArgs: capabilities}
}

func (e engine) add(rt *libcni.RuntimeConf) *current.Result {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(e.t.Context(), time.Minute)
	defer cancel()
	r, err := e.cni.AddNetworkList(ctx, e.list, rt)
	if err != nil {
		e.t.Fatalf("ADD of %s: %v", rt.ContainerID, err)
	}
	got, err := current.NewResultFromResult(r)
	if err != nil {
		e.t.Fatal(err)
	}
	return got
}

func addressOf(r *current.Result) string { return r.IPs[0].Address.IP.String() }

func TestPluginsOfOthersRunAfterWefts(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	installed(t, h)
	e := newEngine(t, h, `{"cniVersion": "1.0.0", "name": "chain", "plugins": [
		{"type": "weft-cni", "capabilities": {"ips": true, "mac": true}},
		{"type": "portmap", "capabilities": {"portMappings": true}},
		{"type": "bandwidth", "capabilities": {"bandwidth": true}},
		{"type": "tuning", "sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}},
		{"type": "firewall"}]}`)
	c := h.Container("c1")
	rt := attachment("c1", map[string]any{
		"ips": []string{"10.32.0.99"}, "mac": "02:00:00:00:00:99",
		"portMappings": []map[string]any{{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}},
		"bandwidth":    map[string]any{"ingressRate": 50_000_000, "ingressBurst": 1_000_000},
	})
	r := e.add(rt)
	if addressOf(r) != "10.32.0.99" {
		t.Errorf("it has %s", addressOf(r))
	}
	ctx := t.Context()
	// Without a port: Debian's portmap looks for its IPv4 port among the IPv6 rules.
	h.Container("c2")
	unmapped := attachment("c2", map[string]any{"bandwidth": rt.CapabilityArgs["bandwidth"]})
	e.add(unmapped)
	if err := e.cni.CheckNetworkList(ctx, e.list, unmapped); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	c.Start("busybox", "httpd", "-f", "-p", "80", "-h", "/etc")
	far, _ := attached(t, hosts[1], "far")
	netlab.Eventually(t, "the published port answers", func() bool {
		return hosts[1].Try("curl", "-sf", "-m", "2", "http://192.0.2.1:8080/hostname").Code == 0
	})
	if r := far.Try("curl", "-sf", "-m", "5", "http://10.32.0.99/hostname"); r.Code != 0 {
		t.Errorf("the container's own port does not answer: %s", r.Stderr)
	}
	for what, ask := range map[string]string{
		"hardware address": "ip -n c1 link show eth0 | grep 02:00:00:00:00:99",
		"sysctl":           "ip netns exec c1 sysctl net.ipv4.conf.eth0.arp_filter | grep '= 1'",
		"rate":             "tc qdisc show dev " + r.Interfaces[1].Name + " | grep tbf",
		"firewall":         "iptables -S CNI-FORWARD | grep 10.32.0.99",
	} {
		if h.Try("bash", "-c", ask).Code != 0 {
			t.Errorf("%s: %s", what, h.Try("bash", "-c", strings.Split(ask, "|")[0]).Stdout)
		}
	}
	for _, rt := range []*libcni.RuntimeConf{rt, unmapped, rt} {
		if err := e.cni.DelNetworkList(ctx, e.list, rt); err != nil {
			t.Errorf("DEL: %v", err)
		}
	}
	if list := listed(t, h); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}

func TestLibcniDrivesStatusAndGC(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	e := newEngine(t, h, `{"cniVersion": "1.1.0", "name": "weft", "plugins": [{"type": "weft-cni"}]}`)
	ctx := t.Context()
	if err := e.cni.GetStatusNetworkList(ctx, e.list); err != nil {
		t.Errorf("STATUS: %v", err)
	}
	for _, id := range []string{"c1", "c2"} {
		h.Container(id)
		e.add(attachment(id, nil))
	}
	h.Container("lost") // its engine lost its own record of it
	cni(t, h, "weft-cni", "ADD", "lost", nil)
	valid := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: "c2", IfName: "eth0"}}}
	if err := e.cni.GCNetworkList(ctx, e.list, valid); err != nil {
		t.Errorf("GC: %v", err)
	}
	if list := listed(t, h); len(list) != 1 || list[0].Container != "c2" {
		t.Errorf("left: %+v", list)
	}
	h.Run("weft", "stop")
	if err := e.cni.GetStatusNetworkList(ctx, e.list); err == nil || !strings.Contains(err.Error(), "weft launch") {
		t.Errorf("STATUS without a daemon: %v", err)
	}
}

func TestResultsOfEveryVersionOfCNI(t *testing.T) {
	_, hosts := launched(t, 1)
	h := hosts[0]
	installed(t, h)
	for i, v := range version.All.SupportedVersions() {
		id := fmt.Sprintf("c%d", i)
		h.Container(id)
		a := cni(t, h, "weft-cni", "ADD", id, network{"cniVersion": v, "type": "weft-cni"})
		decoded, err := version.NewResult(v, []byte(a.text))
		if err != nil || decoded.Version() != v {
			t.Errorf("version %s: %v: %s", v, err, a.text)
			continue
		}
		r, err := current.NewResultFromResult(decoded)
		// Of both families; by IPv6 there is a route to the range, too.
		if err != nil || len(r.IPs) != 2 || len(r.Routes) != 3 {
			t.Errorf("version %s: %+v, %v", v, r, err)
		}
		if a := cni(t, h, "weft-cni", "DEL", id, network{"cniVersion": v}); a.Code != 0 {
			t.Errorf("DEL in version %s: %s", v, a.text)
		}
	}
}

func TestTheBridgePluginTakesAddressesOfWeft(t *testing.T) {
	_, hosts := launched(t, 2)
	h := hosts[0]
	installed(t, h)
	far, farAddr := attached(t, hosts[1], "far")
	// Its containers on weft's own bridge: so other hosts reach them.
	e := newEngine(t, h, `{"cniVersion": "1.0.0", "name": "mixed", "plugins": [
		{"type": "bridge", "bridge": "weft", "ipam": {"type": "weft-ipam", "subnet": "10.32.1.0/24", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}}]}`)
	c := h.Container("c1")
	rt := attachment("c1", nil)
	r := e.add(rt)
	addr := addressOf(r)
	if !netip.MustParsePrefix("10.32.1.0/24").Contains(netip.MustParseAddr(addr)) {
		t.Errorf("the address %s is not in the subnet", addr)
	}
	if err := e.cni.CheckNetworkList(t.Context(), e.list, rt); err != nil {
		t.Errorf("CHECK: %v", err)
	}
	mustPing(t, c, farAddr, "a container of the bridge plugin to another host")
	mustPing(t, far, addr, "another host to a container of the bridge plugin")
	if len(r.IPs) != 2 {
		t.Fatalf("the result is %+v", r)
	}
	mustPing(t, c, listed(t, hosts[1])[0].IPv6[0].String(), "the same by IPv6")
	mustPing(t, far, r.IPs[1].Address.IP.String(), "another host to it by IPv6")
	if out := h.Run("ip", "-n", "c1", "-6", "route", "show", "default"); !strings.Contains(out, "via "+status(t, h).IPAM.IPv6.Addr().String()[:4]) {
		t.Errorf("its default route by IPv6 is %q", out)
	}
	if list := listed(t, h); len(list) != 1 || list[0].State != "reserved" {
		t.Errorf("weft lists %+v", list)
	}
	killed(t, h)
	h.Run("weft", "launch")
	mustPing(t, far, addr, "the same after a crash of the daemon")
	if err := e.cni.DelNetworkList(t.Context(), e.list, rt); err != nil {
		t.Errorf("DEL: %v", err)
	}
	if list := listed(t, h); len(list) != 0 {
		t.Errorf("left: %+v", list)
	}
}
