package encap

import (
	"fmt"
	"net/netip"
	"slices"
)

// Transports, as users give them.
const (
	TransportDirect    = "direct"    // routes on the segment, in the clear
	TransportVXLAN     = "vxlan"     // in the clear
	TransportWireGuard = "wireguard" // encrypted
)

// fastestFirst are all transports.
var fastestFirst = []string{TransportDirect, TransportVXLAN, TransportWireGuard}

// Mode is what a mesh was founded with: which transports its links may use.
type Mode string

// The modes. In all but ModeAuto, links are treated alike.
const (
	ModeAuto      Mode = "auto"      // WireGuard, but where both ends trust each other the fastest
	ModeWireGuard Mode = "wireguard" // nothing else
	ModeVXLAN     Mode = "vxlan"     // nothing else
	ModeDirect    Mode = "direct"    // direct on the segment, VXLAN to the others
)

// Modes are all modes.
var Modes = []Mode{ModeAuto, ModeWireGuard, ModeVXLAN, ModeDirect}

// Encrypts tells whether a stranger can read nothing of a link whose ends do
// not trust each other.
func (m Mode) Encrypts() bool { return m == ModeAuto || m == ModeWireGuard }

// End is what policy knows of one end of a link.
type End struct {
	Name     string         // for people
	Underlay netip.Addr     // where its tunnels end
	Trusts   []netip.Prefix // networks in which it lets traffic be in the clear
	Can      []string       // transports
}

// Verdict says of a transport whether a link may use it, and why.
type Verdict struct {
	Transport string
	Allowed   bool
	Why       string
}

// Policy judges every transport for the link between two ends, fastest first.
// OnSegment tells whether the peer's underlay address is reached without a
// router.
func Policy(mode Mode, own, peer End, onSegment bool) []Verdict {
	mistrust := Untrusted(own, peer)
	var out []Verdict
	for _, transport := range fastestFirst {
		why, allowed := permits(mode, transport, mistrust)
		switch {
		case !allowed:
		case !slices.Contains(own.Can, transport):
			allowed, why = false, "this host cannot do it"
		case !slices.Contains(peer.Can, transport):
			allowed, why = false, fmt.Sprintf("%s does not offer it", peer.Name)
		case transport == TransportDirect && !onSegment:
			allowed, why = false, fmt.Sprintf("%s is behind a router", peer.Underlay)
		}
		out = append(out, Verdict{transport, allowed, why})
	}
	return out
}

// permits is what the mode says of a transport, whoever the ends are.
func permits(mode Mode, transport, mistrust string) (why string, allowed bool) {
	founded := fmt.Sprintf("the mesh was founded with --encap %s", mode)
	switch mode {
	case ModeWireGuard:
		return founded, transport == TransportWireGuard
	case ModeVXLAN:
		return founded, transport == TransportVXLAN
	case ModeDirect:
		return founded, transport != TransportWireGuard
	}
	switch {
	case transport == TransportWireGuard:
		return "it is encrypted", true
	case mistrust != "":
		return mistrust, false
	}
	return "both hosts trust the network between them", true
}

// Untrusted says why two ends do not both trust the network between them, ""
// if they do.
func Untrusted(own, peer End) string {
	for _, who := range []struct {
		name string
		end  End
	}{{"this host", own}, {peer.Name, peer}} {
		for _, addr := range []netip.Addr{own.Underlay, peer.Underlay} {
			if !slices.ContainsFunc(who.end.Trusts, func(p netip.Prefix) bool { return p.Contains(addr) }) {
				return fmt.Sprintf("%s is in none of the trusted subnets of %s", addr, who.name)
			}
		}
	}
	return ""
}
