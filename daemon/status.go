package daemon

import (
	"bytes"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/mesh"
	"github.com/weft-net/weft/mesh/topology"
)

// Status is everything that `weft status` shows.
func (d *Daemon) Status() api.Status {
	spoofed := d.lookSpoofed() // before the warnings, which tell of it
	s := api.Status{
		Version: Version(), Started: d.started.Round(time.Second),
		Mesh: api.Mesh{ID: d.token.MeshID, GossipEncrypted: true, TrafficEncrypted: d.trafficEncrypted(),
			Keys: d.keyStatus(), Encap: d.settings.Encap, Userspace: d.tunnel.Load().userspace, VNI: d.token.VNI()},
		IPAM: d.ipamStatus(),
		Bridge: api.Bridge{Name: d.opts.Bridge, Gateway: netip.PrefixFrom(d.gateway(), d.settings.Range.Bits()),
			MAC: bridgeMAC(d.identity.ID).String(), MTU: d.mtu(), Spoofed: spoofed, IPv6Off: d.ipv6Off()},
		Peers: []api.Peer{}, Links: d.countedLinks(), Targets: d.listTargets(), Refused: []api.Refusal{},
		Health: d.warnings(), Exposed: d.exposed(),
	}
	for _, p := range d.processes() {
		s.Mesh.Processes = append(s.Mesh.Processes, api.Process(p))
	}
	if s.Bridge.IPv6Off == "" {
		s.Bridge.IPv6 = d.ipv6().Addr(d.gateway())
	}
	c := d.mesh.Counters()
	s.Gossip = api.Gossip{RecordsRefused: c.RecordsRefused, MessagesRefused: c.MessagesRefused, LastRefused: c.LastRefused, Dropped: c.Dropped, Unsent: c.Unsent, Spreading: c.Spreading}
	peers := d.mesh.Peers()
	named, known := naming(peers), directory(peers)
	for _, p := range peers {
		broken, shaky, leaf := exceptionsOf(p.Record, known)
		peer := api.Peer{
			ID: p.ID, Name: p.Record.Name, Self: p.Self, State: string(p.State), Gossip: p.Record.Gossip,
			Underlay: p.Record.Underlay, Gateway: p.Record.Gateway, Prefixes: d.plan.Prefixes(p.ID),
			Keys: keysOf(p.Record), Version: p.Version, Software: p.Record.Software, Since: p.Since.Round(time.Second),
			Broken: named(slices.Concat(broken, shaky)), Mute: named(p.Record.Mute), Leaf: leaf,
		}
		peer.Confined = p.Record.Confined
		for _, at := range p.Record.Seen {
			peer.Seen = append(peer.Seen, at.At)
		}
		way, _, _ := d.mesh.Reached(p.ID)
		if peer.Way = string(way); p.Self {
			s.Self = peer
		}
		s.Peers = append(s.Peers, peer)
	}
	for _, r := range d.mesh.Refusals() {
		s.Refused = append(s.Refused, api.Refusal{From: r.Addr, Code: r.Code, Reason: r.Reason, Last: r.Last, Count: r.Count})
	}
	for _, a := range d.listAttached() {
		if _, gone := d.gone(a.key()); gone {
			s.Attach.Gone++
		} else {
			s.Attach.Attached++
		}
	}
	return s
}

func (d *Daemon) ipamStatus() api.IPAM {
	p := d.plan.Status()
	out := api.IPAM{
		Range: p.Range, IPv6: d.ipv6().Prefix(p.Range), BlockBits: p.BlockBits, Blocks: p.Blocks, Unowned: p.Unowned, Used: p.Used, Free: p.Free,
		Member: p.Lodged, Decision: p.Index, Forced: p.Generation, Voters: d.names(p.Voters), WaitingFor: d.names(p.WaitingFor),
		LeasesIn: p.LeasesIn, LeasesOut: p.LeasesOut, Quarantined: p.Quarantined, Shares: []api.Share{}, Pending: []string{}, CutOff: []api.CutOff{}, Subnets: d.subnets(),
	}
	if p.Leader != uuid.Nil {
		out.Leader, out.LeaderID = d.nameOf(p.Leader), p.Leader
	}
	for _, s := range p.Members {
		share := api.Share{ID: s.Peer, Name: d.nameOf(s.Peer), Blocks: s.Blocks, Addresses: s.Addresses, Prefixes: s.Prefixes, Voter: s.Voter, Removed: s.Sealed}
		if s.Peer == d.identity.ID {
			share.Used = &p.Used
		} else if used, ok := d.usedBy(s.Peer); ok {
			share.Used = &used
		}
		out.Shares = append(out.Shares, share)
	}
	for _, x := range p.Pending {
		out.Pending = append(out.Pending, d.nameOf(x.Peer))
	}
	for _, w := range p.Wanted {
		out.CutOff = append(out.CutOff, api.CutOff{Address: w.Addr, Owner: w.Owner, Reason: w.Refused})
	}
	return out
}

// usedBy is how many addresses another peer says that it uses.
func (d *Daemon) usedBy(id uuid.UUID) (int, bool) {
	for _, p := range d.mesh.Peers() {
		if p.ID == id {
			return p.Record.Used, true
		}
	}
	return 0, false
}

// linkView is the way to one peer as it was last set and decided.
type linkView struct {
	encap.Link
	link
}

// snapshot is what the others may know of the tunnels after a pass.
func (d *Daemon) snapshot(mtu int) *tunnel {
	t := &tunnel{mtu: mtu, userspace: d.tunnels.Userspace()}
	links := d.tunnels.Links()
	for id, l := range d.decided {
		view := linkView{links[id], *l}
		if l.reason != "" {
			view.Link.Reason = l.reason
		}
		view.heard = map[string]netip.AddrPort{}
		for _, device := range d.opts.tunnelDevices()[encap.TransportWireGuard] {
			if from := d.tunnels.Heard(device, id, d.now()); from.IsValid() {
				view.heard[device] = from
			}
		}
		t.links = append(t.links, view)
	}
	slices.SortFunc(t.links, func(a, b linkView) int { return bytes.Compare(a.Peer[:], b.Peer[:]) })
	return t
}

// links are the ways to the other peers that have not left.
func (d *Daemon) links() []api.Link {
	peers := map[uuid.UUID]mesh.Peer{}
	all := d.mesh.Peers()
	for _, p := range all {
		peers[p.ID] = p
	}
	named := naming(all)
	quality := d.qualities()
	out := []api.Link{}
	links := d.tunnel.Load().links
	for _, l := range links {
		q := quality[probe.Path{Peer: l.Peer, Device: l.choice.Device}]
		link := api.Link{Peer: l.Peer, Name: peers[l.Peer].Record.Name, Transport: l.choice.Transport, Encrypted: l.choice.Transport == encap.TransportWireGuard,
			Device: l.choice.Device, MTU: l.MTU, Reason: l.Link.Reason, Underlay: l.Underlay, Why: l.choice.Why, Changed: l.choice.At,
			Proven: q.RTT > 0, Answers: q.Works, RTT: q.RTT, Loss: q.Loss, Probes: q.Sent}
		if l.six.Transport != l.choice.Transport {
			link.TransportIPv6 = l.six.Transport
		}
		link.Heard = l.heard[l.choice.Device]
		if l.detour != nil {
			relayed(&link, *l.detour, links)
			link.Encrypted = link.Encrypted && encryptedOn(d.settings.mode(), l.detour.Path, peers)
			link.Via = named(l.detour.Path[:len(l.detour.Path)-1])
		}
		link.Broken = l.whyBroken
		link.KeyEpoch = d.epochOn(link.Device)
		if l.Traffic != nil {
			link.Received, link.Sent = &l.Traffic.Received, &l.Traffic.Sent
		}
		for _, v := range l.verdicts {
			link.Transports = append(link.Transports, api.Verdict{Transport: v.Transport, Allowed: v.Allowed, Why: v.Why})
		}
		out = append(out, link)
	}
	return out
}

// countedLinks are the links with what went over each by all transports.
func (d *Daemon) countedLinks() []api.Link {
	out := d.links()
	plain := map[uuid.UUID]bridge.Passed{}
	if slices.ContainsFunc(d.tunnel.Load().links, linkView.mayBeClear) {
		plain = bridge.PassedInTheClear(d.opts.Bridge)
	}
	for i, l := range out {
		p, passed := plain[l.Peer]
		if !passed {
			continue
		}
		sum := func(encrypted *int64, clear uint64) *int64 {
			n := int64(clear)
			if encrypted != nil {
				n += *encrypted
			}
			return &n
		}
		out[i].Received, out[i].Sent = sum(l.Received, p.Received), sum(l.Sent, p.Sent)
	}
	return out
}

// mayBeClear tells whether a link may carry plaintext.
func (l linkView) mayBeClear() bool {
	return slices.ContainsFunc(l.verdicts, func(v encap.Verdict) bool { return v.Allowed && v.Transport != encap.TransportWireGuard })
}

// relayed makes a link be told of as the way by others that it is.
func relayed(link *api.Link, way topology.Detour, links []linkView) {
	link.ViaRTT, link.Reason = way.RTT, ""
	for _, first := range links {
		if first.Peer == way.Path[0] {
			link.Transport, link.Device, link.MTU = first.choice.Transport, first.choice.Device, first.MTU
			link.Encrypted = first.choice.Transport == encap.TransportWireGuard
		}
	}
}

// naming names peers for people.
func naming(peers []mesh.Peer) func([]uuid.UUID) []api.PeerName {
	return func(ids []uuid.UUID) (out []api.PeerName) {
		for _, id := range ids {
			out = append(out, api.PeerName{ID: id, Name: nameAmong(peers, id)})
		}
		return out
	}
}

// trafficEncrypted tells whether all container traffic to other hosts is.
func (d *Daemon) trafficEncrypted() bool {
	links := d.links()
	return (len(links) > 0 || d.settings.mode().Encrypts()) &&
		!slices.ContainsFunc(links, func(l api.Link) bool { return l.Reason == "" && !l.Encrypted })
}

// encryptedOn tells that no two hosts that follow each other on a way may send in
// the clear. Of links that are not its own a host knows what their ends allow, and
// not what they use.
func encryptedOn(mode encap.Mode, way []uuid.UUID, peers map[uuid.UUID]mesh.Peer) bool {
	for i := range len(way) - 1 {
		if mayBeClear(mode, peers[way[i]].Record, peers[way[i+1]].Record) {
			return false
		}
	}
	return true
}

// mayBeClear tells whether two peers let each other send in the clear, by any of
// their addresses.
func mayBeClear(mode encap.Mode, a, b mesh.Body) bool {
	for _, from := range a.Underlay {
		for _, to := range b.Underlay {
			verdicts := encap.Policy(mode, encap.End{Underlay: from, Trusts: a.Trusted, Can: a.Transports},
				encap.End{Underlay: to, Trusts: b.Trusted, Can: b.Transports}, true)
			if from.Is4() == to.Is4() && slices.ContainsFunc(verdicts, func(v encap.Verdict) bool { return v.Allowed && v.Transport != encap.TransportWireGuard }) {
				return true
			}
		}
	}
	return false
}
