package daemon

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/engine"
	"github.com/weft-net/weft/mesh"
)

// Defaults of a mesh and of a host in it.
const (
	DefaultStateDir  = "/var/lib/weft"
	DefaultBridge    = "weft"
	DefaultPort      = 6783 // gossip, TCP and UDP
	DefaultVXLANPort = 6784 // UDP
	DefaultWGPort    = 6785 // UDP
	DefaultEncap     = string(encap.ModeAuto)
	DefaultTimeout   = 60 * time.Second
	// DefaultReclaimAfter is longer than most repairs of a host take.
	DefaultReclaimAfter = 24 * time.Hour
	// DefaultReleaseAfter is longer than most restarts of a container take.
	DefaultReleaseAfter = time.Minute
	DefaultDockerSocket = engine.DefaultDockerSocket
	DefaultSocketUser   = "weft" // the group that may use the socket, where it exists
)

// Who carries WireGuard's packets on a host, as users give it. WireGuardAuto is
// the kernel, or a process where the kernel has no WireGuard.
const (
	WireGuardAuto      = string(encap.CarrierAuto)
	WireGuardKernel    = string(encap.CarrierKernel)
	WireGuardUserspace = string(encap.CarrierUserspace)
)

// DefaultRange is the address range of a mesh that is founded without another.
var DefaultRange = netip.MustParsePrefix("10.32.0.0/12")

// Options is everything that can be told to a daemon. Where a setting belongs
// to the mesh (Range, BlockBits, Encap and the ports of the transports), the zero
// value means the mesh's, or the default for a mesh that is being founded.
type Options struct {
	StateDir    string // holds the store; 0700
	Socket      string // the control socket
	SocketGroup string // group that may use the socket; ignored if there is none of that name

	HostOptions
	Automatic Automatic // what is no longer as it was kept

	Join []string // peers to join, see mesh.CheckTarget
	// Founders are the hosts that found a mesh together: "address" or
	// "address:port". A host that is none of them joins them.
	Founders []string
	Token    string // proves that this host may join

	Range         netip.Prefix // all containers' addresses, IPv4
	BlockBits     int          // prefix length of the blocks that it is cut into
	VXLANPort     uint16
	WireGuardPort uint16
	NoIPv6        bool   // found a mesh whose containers have IPv4 alone
	Encap         string // one of encap.Modes

	CNI *api.CNISettings // how CNI runtimes find weft; nil for as it was kept, or not at all

	WhenRunning string // what to do where a daemon runs already, see RunningFail

	SetAside bool          // put a store that cannot be read out of the way, and be a new peer
	Timeout  time.Duration // how long a launch may take to become ready
}

// HostOptions belong to the host, which keeps those that were given: a later
// launch without them starts it as it was. The zero value of each means what
// was kept, or else the default.
type HostOptions struct {
	Name       string     `cbor:"1,keyasint"`           // for people; the host's name by default
	Bridge     string     `cbor:"2,keyasint"`           // the tunnel devices' names are derived from it
	Port       uint16     `cbor:"3,keyasint"`           // gossip, TCP and UDP
	Advertise  netip.Addr `cbor:"4,keyasint"`           // by which other hosts reach this one; by the routes by default
	MTU        int        `cbor:"5,keyasint"`           // of the containers, in bytes; what the underlay allows by default
	Masquerade *bool      `cbor:"6,keyasint"`           // hide the containers behind the host towards the outside; true by default
	Observer   *bool      `cbor:"7,keyasint,omitempty"` // take no address space until a container needs it, and never decide; false by default
	// ReclaimAfter is how long another host may be gone before its addresses are
	// given to others; never if it is negative.
	ReclaimAfter time.Duration `cbor:"8,keyasint,omitempty"`
	// Subnet is the part of the range from which containers get addresses.
	Subnet netip.Prefix `cbor:"9,keyasint,omitempty"`
	// Trusted are the networks in which traffic to other hosts may be in the
	// clear, if they say so too; nil for what was kept, empty for none.
	Trusted []netip.Prefix `cbor:"22,keyasint,omitempty"`
	// WireGuard says who carries its packets; WireGuardAuto by default.
	WireGuard string `cbor:"10,keyasint,omitempty"`
	// ReleaseAfter is how long a container's addresses outlive it; as long as
	// the container's engine knows it if it is negative.
	ReleaseAfter time.Duration `cbor:"20,keyasint,omitempty"`
	DockerSocket string        `cbor:"21,keyasint,omitempty"` // where Docker answers
	// RotateKeys is how old the keys of WireGuard may become before this host has
	// the mesh change them; never if it is negative, which is the default.
	RotateKeys time.Duration `cbor:"23,keyasint,omitempty"`
	// AdvertiseAlso are addresses beside Advertise, in the order in which others try
	// them. A weft that kept one more alone had it in AdvertiseSecond.
	AdvertiseAlso   []netip.Addr `cbor:"53,keyasint,omitempty"`
	AdvertiseSecond netip.Addr   `cbor:"40,keyasint,omitzero"`
}

// advertised are the addresses that were given, IPv4 first, and else in their order.
func (h HostOptions) advertised() (out []netip.Addr) {
	for _, a := range append([]netip.Addr{h.Advertise, h.AdvertiseSecond}, h.AdvertiseAlso...) {
		if a.IsValid() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	slices.SortStableFunc(out, func(a, b netip.Addr) int { return cmp.Compare(a.BitLen(), b.BitLen()) })
	return out
}

// Automatic are the options of a host that are to be as if nobody had ever given them.
type Automatic struct {
	Name, Advertise, MTU, Subnet bool
}

// without is what was kept without what is to be automatic.
func (h HostOptions) without(a Automatic) HostOptions {
	if a.Name {
		h.Name = ""
	}
	if a.Advertise {
		h.Advertise, h.AdvertiseAlso, h.AdvertiseSecond = netip.Addr{}, nil, netip.Addr{}
	}
	if a.MTU {
		h.MTU = 0
	}
	if a.Subnet {
		h.Subnet = netip.Prefix{}
	}
	return h
}

// or fills what is not given from elsewhere.
func (h HostOptions) or(o HostOptions) HostOptions {
	if h.Trusted == nil {
		h.Trusted = o.Trusted
	}
	if !h.Advertise.IsValid() { // they are given together
		h.Advertise, h.AdvertiseAlso, h.AdvertiseSecond = o.Advertise, o.AdvertiseAlso, o.AdvertiseSecond
	}
	return HostOptions{
		Trusted: h.Trusted, AdvertiseAlso: h.AdvertiseAlso, AdvertiseSecond: h.AdvertiseSecond,
		Name: cmp.Or(h.Name, o.Name), Bridge: cmp.Or(h.Bridge, o.Bridge), Port: cmp.Or(h.Port, o.Port),
		Advertise: h.Advertise, MTU: cmp.Or(h.MTU, o.MTU), Masquerade: cmp.Or(h.Masquerade, o.Masquerade),
		Observer: cmp.Or(h.Observer, o.Observer), ReclaimAfter: cmp.Or(h.ReclaimAfter, o.ReclaimAfter), Subnet: cmp.Or(h.Subnet, o.Subnet),
		WireGuard: cmp.Or(h.WireGuard, o.WireGuard), RotateKeys: cmp.Or(h.RotateKeys, o.RotateKeys),
		ReleaseAfter: cmp.Or(h.ReleaseAfter, o.ReleaseAfter), DockerSocket: cmp.Or(h.DockerSocket, o.DockerSocket),
	}
}

// defaultHost is how a host is that was told nothing.
func defaultHost() HostOptions {
	name, _ := os.Hostname()
	name = clean(name)
	yes, no := true, false
	return HostOptions{Name: name, Bridge: DefaultBridge, Port: DefaultPort, Masquerade: &yes, Observer: &no, ReclaimAfter: DefaultReclaimAfter,
		ReleaseAfter: DefaultReleaseAfter, DockerSocket: DefaultDockerSocket, WireGuard: WireGuardAuto, RotateKeys: -1}
}

// maxName is how long the name of a host may be, in bytes.
const maxName = 64

// clean is a name as hosts can have it: the kernel takes any bytes for a host's, and
// other hosts refuse a record that is no UTF-8.
func clean(name string) string {
	name = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || unicode.IsSpace(r) || !unicode.IsPrint(r) {
			return '-'
		}
		return r
	}, name)
	for len(name) > maxName {
		_, size := utf8.DecodeLastRuneInString(name)
		name = name[:len(name)-size]
	}
	return name
}

// DefaultOptions is what `weft launch` does when it is told nothing.
func DefaultOptions() Options {
	return Options{StateDir: DefaultStateDir, Socket: api.DefaultSocket, SocketGroup: DefaultSocketUser, Timeout: DefaultTimeout}
}

// The kernel allows 15 bytes in a device's name; the tunnel device's adds a suffix.
var bridgeName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_-]{0,11}$`)

// Validate finds what is wrong with the options without looking at the host.
func (o Options) Validate() error {
	bad := func(format string, args ...any) error {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.StateDir == "":
		return bad("the state directory is empty")
	case o.Socket == "":
		return bad("the socket's path is empty")
	case len(o.Socket) > 107:
		return bad("the socket's path %s is longer than 107 bytes, the most that the kernel takes", o.Socket)
	case o.Name != clean(o.Name):
		return bad("the name %q is longer than %d bytes, or has blanks in it or what cannot be printed", o.Name, maxName)
	case o.Bridge != "" && !bridgeName.MatchString(o.Bridge):
		return bad("the bridge's name %q is not 1 to 12 letters, digits, - or _ after a letter", o.Bridge)
	case o.Encap != "" && !slices.Contains(encap.Modes, encap.Mode(o.Encap)):
		return bad("encapsulation %q is not known: this weft has %s", o.Encap, ModeList)
	case len(o.Trusted) > maxTrusted:
		return bad("%d trusted subnets are more than the %d that other hosts take", len(o.Trusted), maxTrusted)
	case slices.ContainsFunc(o.Trusted, func(p netip.Prefix) bool { return p != p.Masked() }):
		return bad("of the trusted subnets %v, one is not a network such as 192.168.1.0/24", o.Trusted)
	case !slices.Contains([]string{"", WireGuardAuto, WireGuardKernel, WireGuardUserspace}, o.WireGuard):
		return bad("WireGuard cannot be carried by %q: this weft has %s, %s and %s", o.WireGuard, WireGuardAuto, WireGuardKernel, WireGuardUserspace)
	case portsClash(cmp.Or(o.Port, DefaultPort), o.VXLANPort, o.WireGuardPort) != "":
		return bad("%s", portsClash(cmp.Or(o.Port, DefaultPort), o.VXLANPort, o.WireGuardPort))
	case slices.ContainsFunc(o.advertised(), func(a netip.Addr) bool { return !a.IsGlobalUnicast() || a.Is4In6() }):
		return bad("of the addresses %v, one is not one that peers can reach this host by", o.advertised())
	case len(o.advertised()) > maxAdvertised:
		return bad("%d addresses to advertise are more than the %d that other hosts try", len(o.advertised()), maxAdvertised)
	case o.MTU != 0 && (o.MTU < 576 || o.MTU > 65535):
		return bad("an MTU of %d is not between 576 and 65535", o.MTU)
	case !slices.Contains(runnings, o.WhenRunning):
		return bad("where a daemon runs already, %q cannot be done: this weft has %s, %s and %s", o.WhenRunning, RunningFail, RunningWait, RunningReplace)
	case o.Timeout <= 0:
		return bad("the timeout %s is not positive", o.Timeout)
	case o.ReclaimAfter > 0 && o.ReclaimAfter < time.Minute:
		return bad("to give a host's addresses away after %s is too soon: a restart takes longer; say a minute or more, or -1s for never", o.ReclaimAfter)
	case o.RotateKeys > 0 && o.RotateKeys < time.Hour:
		return bad("to change keys every %s is too often: say an hour or more, or -1s for never", o.RotateKeys)
	case o.DockerSocket != "" && !strings.HasPrefix(o.DockerSocket, "/"):
		return bad("Docker's socket %q is not an absolute path", o.DockerSocket)
	case o.Subnet.IsValid() && (o.Subnet != o.Subnet.Masked() || !o.Subnet.Addr().Is4() || o.Subnet.Bits() > 30):
		return bad("subnet %s is not an IPv4 network such as 10.40.0.0/16", o.Subnet)
	case checkTargets(o.Join) != nil:
		return checkTargets(o.Join)
	case len(o.Founders) > 0 && o.Token == "":
		return &api.Error{Code: api.CodeInvalid, Message: "hosts that found a mesh together need one token",
			Fix: "`weft token new` makes one; give the same --token and --founders on each of them"}
	}
	return nil
}

// portsClash says which two parts of weft would have the same UDP port, "" if none; a
// port of 0 is not known yet. WireGuard's second port gets out of the way of all.
func portsClash(gossip, vxlan, wireguard uint16) string {
	ports := []struct {
		what string
		port uint16
	}{{"gossip", gossip}, {"VXLAN", vxlan}, {"WireGuard", wireguard}, {"probes", probe.Port}, {"discovery by multicast", mesh.SegmentPort}}
	for i, b := range ports {
		for _, a := range ports[:i] {
			if a.port == b.port && a.port != 0 {
				return fmt.Sprintf("%s and %s cannot share port %d", a.what, b.what, a.port)
			}
		}
	}
	return ""
}

// tunnelDevices are the names of the devices to other hosts, by transport; of
// WireGuard one for each place that a slot can have. They are no longer than the
// kernel takes.
func (o Options) tunnelDevices() map[string][]string {
	return map[string][]string{encap.TransportWireGuard: {o.Bridge + "-wg", o.Bridge + "-w1"}, encap.TransportVXLAN: {o.Bridge + "-vx", o.Bridge + "-v1"}}
}

// deviceNames are all of them.
func (o Options) deviceNames() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(o.tunnelDevices()))...)))
}

// maxAdvertised is how many addresses of its own a host can name.
const maxAdvertised = 16

// maxTrusted is how many networks a record can name.
const maxTrusted = 32

// ModeList are the ways to found a mesh, as users give them.
var ModeList = fmt.Sprintf("%s, %s, %s and %s", encap.ModeAuto, encap.ModeWireGuard, encap.ModeVXLAN, encap.ModeDirect)
