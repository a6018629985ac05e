package cni

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/weft-net/weft/api"
)

// made is an attachment and what the kernel has of it.
func made() (api.Attachment, api.Inspection) {
	a := api.Attachment{
		Bridge: "weft", HostInterface: "weft00", Interface: "eth0", MAC: "0a:57:0a:20:00:05", MTU: 1440,
		Address: netip.MustParsePrefix("10.32.0.5/12"), More: []netip.Prefix{netip.MustParsePrefix("10.32.0.6/12")}, Gateway: netip.MustParseAddr("10.32.0.1"),
		IPv6: []netip.Addr{netip.MustParseAddr("fd12::a20:5"), netip.MustParseAddr("fd12::a20:6")}, IPv6Gateway: netip.MustParseAddr("fe80::1"),
	}
	a.Routes = []api.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0"), Via: a.Gateway},
		{Destination: netip.MustParsePrefix("fd12::a20:0/108"), Via: a.IPv6Gateway}, {Destination: netip.MustParsePrefix("::/0"), Via: a.IPv6Gateway},
	}
	found := api.Inspection{
		Attachment: a, MAC: a.MAC, MTU: a.MTU, Addresses: append([]netip.Prefix{a.Address}, a.More...),
		Routes: append([]api.Route{{Destination: netip.MustParsePrefix("10.32.0.0/12")}}, a.Routes...),
	}
	for _, six := range a.IPv6 {
		found.Addresses = append(found.Addresses, netip.PrefixFrom(six, 128))
	}
	return a, found
}

func TestTheResultOfAnADDPassesItsOwnCheck(t *testing.T) {
	a, found := made()
	n, err := readNetwork([]byte(`{"name":"weft","dns":{"nameservers":["10.32.0.1"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	prev := &current.Result{Interfaces: []*current.Interface{{Name: "lo", Sandbox: "/n"}}} // of a plugin before
	r := n.result(prev, &skel.CmdArgs{Netns: "/n"}, a)
	if len(r.Interfaces) != 4 || len(r.IPs) != 4 || *r.IPs[1].Interface != 3 || len(r.Routes) != 3 || r.DNS.Nameservers[0] != "10.32.0.1" {
		t.Errorf("the result is %+v", r)
	}
	if diff := compare(r, "eth0", found); len(diff) > 0 {
		t.Errorf("it differs: %v", diff)
	}
	a.Routes = nil
	if r := n.result(nil, &skel.CmdArgs{Netns: "/n"}, a); len(r.Routes) != 0 {
		t.Errorf("routes without a default route: %v", r.Routes)
	}
}

func TestCheckNamesEachDifference(t *testing.T) {
	for want, spoil := range map[string]func(*current.Result, *api.Inspection){
		"missing: the bridge":          func(_ *current.Result, f *api.Inspection) { f.Missing = "the bridge" },
		"prevResult has no interface":  func(r *current.Result, _ *api.Inspection) { r.Interfaces = r.Interfaces[:2] },
		"the hardware address is 02:":  func(_ *current.Result, f *api.Inspection) { f.MAC = "02:00:00:00:00:01" },
		"the MTU is 1400, not 1440":    func(_ *current.Result, f *api.Inspection) { f.MTU = 1400 },
		"address 10.32.0.6/12 is miss": func(_ *current.Result, f *api.Inspection) { f.Addresses = slices.Delete(f.Addresses, 1, 2) },
		"address fd12::a20:6/128 is m": func(_ *current.Result, f *api.Inspection) { f.Addresses = f.Addresses[:3] },
		"the route to 0.0.0.0/0 by 10": func(_ *current.Result, f *api.Inspection) { f.Routes = slices.Delete(f.Routes, 1, 2) },
		"the route to ::/0 by fe80::1": func(_ *current.Result, f *api.Inspection) { f.Routes = f.Routes[:3] },
	} {
		a, found := made()
		r := (&network{}).result(nil, &skel.CmdArgs{Netns: "/n"}, a)
		spoil(r, &found)
		diff := compare(r, "eth0", found)
		if len(diff) != 1 || !strings.HasPrefix(diff[0], want) {
			t.Errorf("want %q: %q", want, diff)
		}
		isCode(t, want, differs(diff), errDiffers, want)
	}
}

func TestCheckLeavesTheRoutesOfOthersAlone(t *testing.T) {
	a, found := made()
	r := (&network{}).result(nil, &skel.CmdArgs{Netns: "/n"}, a)
	r.Routes = append(r.Routes, &types.Route{Dst: ipNet(netip.MustParsePrefix("192.0.2.0/24")), GW: []byte{192, 0, 2, 1}})
	if diff := compare(r, "eth0", found); len(diff) > 0 {
		t.Errorf("it differs: %v", diff)
	}
}
