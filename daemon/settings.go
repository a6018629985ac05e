package daemon

import (
	"bytes"
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/ipam"
	"github.com/weft-net/weft/mesh"
)

// settings are fixed when a mesh is founded and the same for all its peers.
// They travel in the hello's welcome, and a peer with others is refused.
type settings struct {
	Range         netip.Prefix `cbor:"1,keyasint"`
	BlockBits     int          `cbor:"2,keyasint"`
	Encap         string       `cbor:"3,keyasint"`
	VXLANPort     uint16       `cbor:"4,keyasint"`
	WireGuardPort uint16       `cbor:"5,keyasint,omitempty"` // 0 in a mesh that was founded before there was one
	// Founders are the addresses, in order, of the hosts that founded the mesh
	// together; none if one did alone.
	Founders []string `cbor:"6,keyasint,omitempty"`
	NoIPv6   bool     `cbor:"10,keyasint,omitempty"` // containers have IPv4 alone
}

// foundingSettings are those of a mesh that is founded with these options.
func foundingSettings(o Options) settings {
	s := settings{
		Range: cmp.Or(o.Range, DefaultRange), BlockBits: o.BlockBits, Encap: cmp.Or(o.Encap, DefaultEncap),
		VXLANPort: cmp.Or(o.VXLANPort, DefaultVXLANPort), WireGuardPort: cmp.Or(o.WireGuardPort, DefaultWGPort),
		NoIPv6: o.NoIPv6,
	}
	if s.BlockBits == 0 {
		s.BlockBits = ipam.DefaultBlockBits(s.Range)
	}
	return s
}

// foundersOf brings a list of founders into the one form that all hosts give
// it. The port is that of one that names none.
func foundersOf(list []string, port uint16) ([]string, error) {
	var out []string
	for _, f := range list {
		a, err := netip.ParseAddrPort(f)
		if err != nil {
			host, e := netip.ParseAddr(f)
			if e != nil {
				return nil, &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("founder %q is not an address, or address:port", f),
					Fix: "give the addresses by which the hosts reach each other, as in --founders 192.168.1.1,192.168.1.2"}
			}
			a = netip.AddrPortFrom(host, port)
		}
		out = append(out, a.String())
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// port is the UDP port of a transport, 0 for none.
func (s settings) port(transport string) uint16 {
	return map[string]uint16{encap.TransportWireGuard: s.WireGuardPort, encap.TransportVXLAN: s.VXLANPort}[transport]
}

// slotPort is the UDP port of WireGuard's slots of one place. That of the second
// follows the mesh's, behind those that something else of weft has.
func (s settings) slotPort(index int, gossip uint16) uint16 {
	port := s.WireGuardPort
	for range index {
		port = max(port+1, 1024)
		for slices.Contains([]uint16{gossip, s.VXLANPort, s.WireGuardPort, probe.Port, mesh.SegmentPort}, port) {
			port = max(port+1, 1024)
		}
	}
	return port
}

// used are the ports of a host that weft itself listens on, or will.
func (s settings) used(protocol string, gossip uint16) []uint16 {
	if protocol != "udp" {
		return []uint16{gossip}
	}
	return []uint16{gossip, s.VXLANPort, s.slotPort(0, gossip), s.slotPort(1, gossip), probe.Port, mesh.SegmentPort}
}

// mode says which transports the mesh's links may use.
func (s settings) mode() encap.Mode { return encap.Mode(s.Encap) }

// agrees tells whether options that were given explicitly fit the mesh's settings.
func (s settings) agrees(o Options) error {
	differ := func(what string, mine, theirs any) error {
		return &api.Error{Code: api.CodeConflict,
			Message: fmt.Sprintf("the mesh's %s is %v, not %v", what, theirs, mine),
			Fix:     "leave that option out, since the mesh decides it when it is founded"}
	}
	switch {
	case o.Range.IsValid() && o.Range != s.Range:
		return differ("range", o.Range, s.Range)
	case o.BlockBits != 0 && o.BlockBits != s.BlockBits:
		return differ("block size", fmt.Sprintf("/%d", o.BlockBits), fmt.Sprintf("/%d", s.BlockBits))
	case o.Encap != "" && o.Encap != s.Encap:
		return differ("encapsulation", o.Encap, s.Encap)
	case o.VXLANPort != 0 && o.VXLANPort != s.VXLANPort:
		return differ("VXLAN port", o.VXLANPort, s.VXLANPort)
	case o.WireGuardPort != 0 && o.WireGuardPort != s.WireGuardPort:
		return differ("WireGuard port", o.WireGuardPort, s.WireGuardPort)
	case o.NoIPv6 && !s.NoIPv6:
		return differ("IPv6", "off", "on")
	}
	return nil
}

// wire's deterministic encoding makes equal settings equal bytes, which is how
// the hello compares them.
var wire = func() cbor.EncMode {
	m, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

// strict bounds what a peer or a damaged store can make us decode.
var strict = func() cbor.DecMode {
	m, err := cbor.DecOptions{MaxNestedLevels: 8, MaxArrayElements: 4096, MaxMapPairs: 256}.DecMode()
	if err != nil {
		panic(err) // the options are constants
	}
	return m
}()

func encode(v any) []byte {
	b, err := wire.Marshal(v)
	if err != nil {
		panic(err) // our own types always encode
	}
	return b
}

// decodeSettings reads settings that came from a peer or the store. Settings
// of a newer weft with parts that this one does not know are refused, since
// ignoring one of them would put this host at odds with the mesh.
func decodeSettings(b []byte) (settings, error) {
	var s settings
	if err := strict.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read the mesh's settings: %w", err)
	}
	if !bytes.Equal(encode(s), b) {
		return s, &api.Error{Code: api.CodeFailed, Message: "the mesh has settings that this weft does not know",
			Fix: "upgrade weft on this host to the mesh's version"}
	}
	if err := ipam.Validate(s.Range, s.BlockBits); err != nil {
		return s, fmt.Errorf("read the mesh's settings: %w", err)
	}
	if !slices.Contains(encap.Modes, s.mode()) {
		return s, &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("the mesh uses encapsulation %q, which this weft does not have", s.Encap),
			Fix: "upgrade weft on this host to the mesh's version"}
	}
	return s, nil
}

// checkSubnet finds out whether addresses can be had from a subnet.
func (s settings) checkSubnet(sub netip.Prefix) error {
	if sub.IsValid() && (sub.Bits() < s.Range.Bits() || !s.Range.Contains(sub.Addr())) {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("subnet %s is outside of the mesh's range %s", sub, s.Range), Fix: "give another in it"}
	}
	return nil
}
