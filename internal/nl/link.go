package nl

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Kinds of links that weft makes.
const (
	KindBridge    = "bridge"
	KindVXLAN     = "vxlan"
	KindVeth      = "veth"
	KindWireGuard = "wireguard"
)

// Kinds of links that weft does not make: a device whose packets a process reads and
// writes, and one that leads nowhere.
const (
	KindTUN   = "tuntap"
	KindDummy = "dummy"
)

// AliasPrefix begins the alias of every device that weft made.
const AliasPrefix = "weft:"

// Link is a network device as the kernel shows it.
type Link struct {
	Index int
	Name  string
	Kind  string // as `ip link show type` has it: bridge, veth, vxlan, …
	Alias string // free text; weft marks its devices with it
	MAC   net.HardwareAddr
	MTU   int // bytes
	// Up is the administrative state; Running also needs a carrier.
	Up, Running bool
	Master      int // index of the bridge that it is a port of, or 0
	// Peer is, of a veth, the index that the other end has in its own namespace.
	Peer  int
	VXLAN *VXLAN

	raw netlink.Link
}

func fromKernel(l netlink.Link) Link {
	a := l.Attrs()
	out := Link{
		Index: a.Index, Name: a.Name, Kind: l.Type(), Alias: a.Alias, MAC: a.HardwareAddr, MTU: a.MTU,
		Up:      a.Flags&net.FlagUp != 0,
		Running: a.OperState == netlink.OperUp,
		Master:  a.MasterIndex, raw: l,
	}
	if out.Kind == KindVeth {
		out.Peer = a.ParentIndex
	}
	if v, ok := l.(*netlink.Vxlan); ok {
		out.VXLAN = vxlanFromKernel(v)
	}
	return out
}

// IsWeft tells whether weft made the link.
func (l Link) IsWeft() bool { return strings.HasPrefix(l.Alias, AliasPrefix) }

// Link returns the link of that name, or an error that wraps ErrNotFound.
func (c *Conn) Link(name string) (Link, error) {
	l, err := c.h.LinkByName(name)
	return lookedUp(l, err, name)
}

// LinkAt returns the link of that index, or an error that wraps ErrNotFound.
func (c *Conn) LinkAt(index int) (Link, error) {
	l, err := c.h.LinkByIndex(index)
	return lookedUp(l, err, strconv.Itoa(index))
}

// lookedUp is what the library found of a link, or why not.
func lookedUp(l netlink.Link, err error, which string) (Link, error) {
	if err != nil {
		var missing netlink.LinkNotFoundError
		if errors.As(err, &missing) {
			return Link{}, fmt.Errorf("link %s: %w", which, ErrNotFound)
		}
		return Link{}, fmt.Errorf("look up link %s: %w", which, err)
	}
	return fromKernel(l), nil
}

// Links returns every link of the namespace.
func (c *Conn) Links() ([]Link, error) {
	list, err := dump(c.h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	out := make([]Link, len(list))
	for i, l := range list {
		out[i] = fromKernel(l)
	}
	return out, nil
}

// LinkState is what AdjustLink makes true of a link; a zero field is left as it is.
type LinkState struct {
	Alias  string
	MAC    net.HardwareAddr
	MTU    int // bytes
	Master *Link
	Up     bool
}

// AdjustLink changes what differs between a link and the state wanted.
func (c *Conn) AdjustLink(l Link, want LinkState) error {
	fail := func(what string, err error) error {
		return fmt.Errorf("set %s of link %s: %w", what, l.Name, err)
	}
	if want.Alias != "" && l.Alias != want.Alias {
		if err := c.h.LinkSetAlias(l.raw, want.Alias); err != nil {
			return fail("alias", err)
		}
	}
	if want.MAC != nil && !bytes.Equal(l.MAC, want.MAC) {
		if err := c.h.LinkSetHardwareAddr(l.raw, want.MAC); err != nil {
			return fail("address", err)
		}
	}
	if want.MTU != 0 && l.MTU != want.MTU {
		if err := c.h.LinkSetMTU(l.raw, want.MTU); err != nil {
			return fail("MTU", err)
		}
	}
	if want.Master != nil && l.Master != want.Master.Index {
		if err := c.h.LinkSetMasterByIndex(l.raw, want.Master.Index); err != nil {
			return fail("bridge", err)
		}
	}
	if want.Up && !l.Up {
		if err := c.h.LinkSetUp(l.raw); err != nil {
			return fail("state up", err)
		}
	}
	return nil
}

// SetHairpin lets a port of a bridge send out what came in by it, or not.
func (c *Conn) SetHairpin(l Link, on bool) error {
	if err := c.h.LinkSetHairpin(l.raw, on); err != nil {
		return fmt.Errorf("set hairpin mode of link %s: %w", l.Name, err)
	}
	return nil
}

// SetBridgeFilter has what passes a bridge also pass the rules of netfilter for
// what is routed, or not: as the sysctl bridge-nf-call-iptables, for this bridge.
// It is one of the calling thread's network namespace.
func SetBridgeFilter(l Link, on bool) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(l.Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(KindBridge))
	value := byte(0)
	if on {
		value = 1
	}
	info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.IFLA_BR_NF_CALL_IPTABLES, []byte{value})
	req.AddData(info)
	if _, err := req.Execute(unix.NETLINK_ROUTE, 0); err != nil {
		return fmt.Errorf("set netfilter of bridge %s: %w", l.Name, err)
	}
	return nil
}

// DeleteLink removes the link of that name; one that is gone already is no error.
func (c *Conn) DeleteLink(name string) error {
	l, err := c.Link(name)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.h.LinkDel(l.raw); err != nil {
		if _, again := c.Link(name); errors.Is(again, ErrNotFound) {
			return nil // its other end's namespace went away at the same moment
		}
		return fmt.Errorf("delete link %s: %w", name, err)
	}
	return nil
}

// CreateBridge makes a bridge without spanning tree. With a fixed address it
// does not change its own as ports come and go.
func (c *Conn) CreateBridge(name string, mac net.HardwareAddr) (Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = name, mac
	if err := c.h.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return Link{}, fmt.Errorf("create bridge %s: %w", name, err)
	}
	return c.Link(name)
}

// ErrUnsupported is wrapped by errors about a device that this kernel cannot make.
var ErrUnsupported = errors.New("this kernel does not have it")

// CreateWireGuard makes a WireGuard device of the kernel, which is down. The
// error wraps ErrUnsupported where the kernel has none.
func (c *Conn) CreateWireGuard(name string) (Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	err := c.h.LinkAdd(&netlink.Wireguard{LinkAttrs: attrs})
	if errors.Is(err, unix.EOPNOTSUPP) {
		err = ErrUnsupported
	}
	if err != nil {
		return Link{}, fmt.Errorf("create WireGuard device %s: %w", name, err)
	}
	return c.Link(name)
}

// Veth describes a pair of virtual Ethernet devices to be made.
type Veth struct {
	Host, Peer       string           // names of the two ends
	HostMAC, PeerMAC net.HardwareAddr // nil: random
	MTU              int              // bytes, of both
	PeerNS           *Namespace       // where the peer's end is made
}

// CreateVeth makes a pair, its one end here and the other in a namespace; both are down.
func (c *Conn) CreateVeth(v Veth) (Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr, attrs.MTU = v.Host, v.HostMAC, v.MTU
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: v.Peer, PeerHardwareAddr: v.PeerMAC, PeerMTU: uint32(v.MTU)}
	if v.PeerNS != nil {
		pair.PeerNamespace = netlink.NsFd(v.PeerNS.file.Fd())
	}
	if err := c.h.LinkAdd(pair); err != nil {
		return Link{}, fmt.Errorf("create veth pair %s, %s: %w", v.Host, v.Peer, err)
	}
	return c.Link(v.Host)
}
