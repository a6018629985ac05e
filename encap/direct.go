package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
)

// Sysctls keeps what sysctls of devices that are not weft's were before.
type Sysctls interface {
	// SaveSysctl makes the value that a sysctl had before durable. The first
	// value of a key counts.
	SaveSysctl(key, value string) error
	// RestoreSysctls writes the saved values of these keys back, and forgets them.
	RestoreSysctls(keys []string) error
	// RenameDevice makes what was saved of a device be that of its new name.
	RenameDevice(old, now string) error
}

// Direct is the Driver without a tunnel: routes by the peers' underlay
// addresses, to those that are on the same segment. Container traffic travels
// in the clear.
type Direct struct {
	log    *slog.Logger
	conn   *nl.Conn
	saver  Sysctls
	own    ula.Ranges // in which routes are this mesh's
	under  underlay
	local  Local
	mtu    int
	device string // whose sysctls were changed; "" for none
	index  int    // of that device, which stays where it gets another name
	routes []nl.Route
	links  []Link
}

// NewDirect returns the driver for the caller's network namespace. Own is as in Local.
func NewDirect(log *slog.Logger, saver Sysctls, own ula.Ranges) (*Direct, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	return &Direct{log: log, conn: conn, saver: saver, own: own, under: underlay{log: log, conn: conn}}, nil
}

// Name is "direct".
func (d *Direct) Name() string { return TransportDirect }

// MTU is the underlay's, in bytes.
func (d *Direct) MTU() int { return d.mtu }

// Encrypted is false.
func (d *Direct) Encrypted() bool { return false }

// Userspace is false: the kernel carries every packet.
func (d *Direct) Userspace() bool { return false }

// Links are the links as they were last set.
func (d *Direct) Links() []Link { return d.links }

// Routes lead to the peers by their underlay addresses.
func (d *Direct) Routes() []nl.Route { return d.routes }

// End has nothing to do: there is no process.
func (d *Direct) End() error { return nil }

// Close lets go of the kernel, which goes on forwarding.
func (d *Direct) Close() error {
	d.conn.Close()
	return nil
}

// directSysctls are those of the underlay's device, whose values are kept.
func directSysctls(device string) map[string]string {
	return map[string]string{
		// As on tunnels, answers may come by another way. Where nothing is
		// filtered, nothing is changed.
		"ipv4/conf/" + device + "/rp_filter": "2",
		// A packet for a prefix that has moved is no reason to teach routes.
		"ipv4/conf/" + device + "/send_redirects": "0",
	}
}

// Up prepares the device that has the underlay address, which is not weft's.
func (d *Direct) Up(local Local) error {
	mtu, err := d.under.fit(local, 0)
	if err != nil {
		return err
	}
	d.local, d.mtu = local, mtu
	if d.device != "" && d.device != local.Device {
		if err := d.restore(d.device); err != nil {
			return err
		}
	}
	dev, err := d.conn.Link(local.Device)
	if err != nil {
		return err
	}
	d.device, d.index = local.Device, dev.Index
	strict, err := nl.Sysctl("ipv4/conf/all/rp_filter")
	if err != nil {
		return err
	}
	for key, want := range directSysctls(local.Device) {
		now, err := nl.Sysctl(key)
		if err != nil {
			return err
		}
		if now == want || key == "ipv4/conf/"+local.Device+"/rp_filter" && now == "0" && strict == "0" {
			continue
		}
		if err := d.saver.SaveSysctl(key, now); err != nil {
			return fmt.Errorf("keep sysctl net/%s: %w", key, err)
		}
		if err := nl.SetSysctl(key, want); err != nil {
			return err
		}
	}
	return nil
}

// renamed follows a device that has got another name, under which its sysctls are what
// weft made them, and returns its name now; "" where it is gone, or was none.
func (d *Direct) renamed() (now string, err error) {
	if d.device == "" {
		return "", nil
	}
	if dev, err := d.conn.Link(d.device); err == nil && dev.Index == d.index {
		return "", nil
	}
	links, err := d.conn.Links()
	i := slices.IndexFunc(links, func(l nl.Link) bool { return l.Index == d.index })
	if err != nil || i < 0 || links[i].Name == d.device {
		return "", err
	}
	if err := d.saver.RenameDevice(d.device, links[i].Name); err != nil {
		return "", err
	}
	d.device = links[i].Name
	return d.device, nil
}

// restore writes back what the sysctls of a device were.
func (d *Direct) restore(device string) error {
	var keys []string
	for key := range directSysctls(device) {
		keys = append(keys, key)
	}
	return d.saver.RestoreSysctls(keys)
}

// Set computes the routes to these peers, as far as they are on the segment.
func (d *Direct) Set(peers []Peer) error {
	up := d.Up(d.local)
	d.routes, d.links = planDirect(d.local.on(), peers)
	dev, err := d.conn.LinkWithAddr(d.local.Underlay)
	if err != nil {
		d.routes = nil
		return errors.Join(up, err)
	}
	d.local.onDevice(dev.Index, d.mtu, d.routes, d.links)
	return up
}

// DirectTakesIPv6 tells whether direct routes by a peer's address take both
// families: a next hop in IPv6 takes IPv4 as well, and one in IPv4 does not take
// IPv6.
func DirectTakesIPv6(peer netip.Addr) bool { return peer.Is6() }

// planDirect computes the plan. Each peer's end is its underlay address.
func planDirect(local Local, peers []Peer) (routes []nl.Route, links []Link) {
	for _, j := range judge(local, peers, local.Underlay, func(p Peer) (netip.Addr, string) { return p.Underlay, "" }) {
		if j.usable() {
			by := hop{via: j.peer.Underlay}
			six := by
			six.none = !DirectTakesIPv6(by.via)
			routes = append(routes, routesTo(local, j.peer, by, six)...)
		}
		links = append(links, j.link)
	}
	return routes, links
}

// Remove takes the routes by a device away and puts its sysctls back; without a
// device it takes all that are not by a tunnel or the bridge. What leads over the
// underlay or to links may be another weft's on this host, which has it back at once.
func (d *Direct) Remove(device string) (removed []string, err error) {
	links, err := d.conn.Links()
	if err != nil {
		return nil, err
	}
	weft, only := map[int]bool{}, 0
	for _, l := range links {
		if weft[l.Index] = l.IsWeft(); l.Name == device {
			only = l.Index
		}
	}
	direct := func(r nl.Route) bool {
		mine := d.own.Hold(r.Dst) || LinkRange.Contains(r.Dst.Addr()) || r.Metric == narrowMetric
		return mine && !r.Unreachable && !weft[r.Device] && (device == "" || r.Device == only && r.Metric != narrowMetric)
	}
	have, err := d.conn.Routes(true)
	if err != nil {
		return nil, err
	}
	for _, r := range have {
		if direct(r) {
			removed = append(removed, fmt.Sprintf("route to %s by %s", r.Dst, r.Via))
		}
	}
	if device != "" {
		err = d.restore(device)
	}
	d.device, d.index, d.routes, d.links = "", 0, nil, nil
	return removed, errors.Join(err, d.conn.SyncRoutes(nil, direct))
}

// OnSegment tells whether this host reaches an underlay address by a device
// without a router in between.
func OnSegment(conn *nl.Conn, device string, addr netip.Addr) (bool, error) {
	dev, err := conn.Link(device)
	if err != nil {
		return false, err
	}
	hop, err := conn.NextHop(addr)
	if errors.Is(err, nl.ErrNotFound) {
		return false, nil
	}
	return err == nil && hop.Device == dev.Index && !hop.Via.IsValid(), err
}
