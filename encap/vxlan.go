package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weft-net/weft/internal/nl"
)

// VXLAN is the Driver for RFC 7348: one device, no learning and no flooding,
// every entry programmed. Container traffic travels in the clear.
type VXLAN struct {
	log   *slog.Logger
	conn  *nl.Conn
	under underlay
	local Local
	mtu   int // of the device
	plan  plan
}

// NewVXLAN returns the driver for the caller's network namespace.
func NewVXLAN(log *slog.Logger) (*VXLAN, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	return &VXLAN{log: log, conn: conn, under: underlay{log: log, conn: conn}}, nil
}

// Name is "vxlan".
func (v *VXLAN) Name() string { return TransportVXLAN }

// MTU is what fits into the tunnel, in bytes.
func (v *VXLAN) MTU() int { return v.mtu }

// Encrypted is false: VXLAN has nothing of the kind.
func (v *VXLAN) Encrypted() bool { return false }

// Userspace is false: the kernel carries every packet.
func (v *VXLAN) Userspace() bool { return false }

// End has nothing to do: there is no process.
func (v *VXLAN) End() error { return nil }

// Links are the links as they were last set.
func (v *VXLAN) Links() []Link { return v.plan.links }

// Close lets go of the kernel, which goes on forwarding.
func (v *VXLAN) Close() error {
	v.conn.Close()
	return nil
}

// Up makes the device. One with other settings that cannot be changed in
// place is made anew.
func (v *VXLAN) Up(local Local) error {
	mtu, err := v.under.fit(local, vxlanOverhead(local.Underlay))
	if err != nil {
		return err
	}
	v.local, v.mtu = local, mtu
	dev, err := v.device()
	if err != nil {
		return err
	}
	if err := withoutLinkLocal(local.Device); err != nil {
		return err
	}
	err = v.conn.AdjustLink(dev, nl.LinkState{Alias: local.Alias, MAC: VTEPMAC(local.ID).HardwareAddr(), MTU: local.deviceMTU(mtu), Up: true})
	if errors.Is(err, unix.EADDRINUSE) {
		return portTaken(local, err)
	}
	if err != nil {
		return err
	}
	return forwards(v.conn, dev, local)
}

func (v *VXLAN) device() (nl.Link, error) {
	want := nl.VXLAN{VNI: v.local.VNI, Port: v.local.Port, Local: v.local.Underlay}
	dev, err := v.conn.Link(v.local.Device)
	switch {
	case err == nil && (dev.VXLAN == nil || !dev.IsWeft()):
		return dev, fmt.Errorf("device %s is not weft's: remove it (ip link delete %s), or give weft another name", dev.Name, dev.Name)
	case err == nil && *dev.VXLAN == want:
		return dev, nil
	case err == nil:
		v.log.Info("making the tunnel device anew", "name", dev.Name, "was", *dev.VXLAN, "becomes", want)
		if err := v.conn.DeleteLink(dev.Name); err != nil {
			return dev, err
		}
	case !errors.Is(err, nl.ErrNotFound):
		return dev, err
	}
	dev, err = v.conn.CreateVXLAN(v.local.Device, VTEPMAC(v.local.ID).HardwareAddr(), v.local.deviceMTU(v.mtu), want)
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("another VXLAN device uses port %d and network identifier %d: %w", want.Port, want.VNI, err)
	}
	return dev, err
}

// Set programs the entries for these peers and removes all others.
func (v *VXLAN) Set(peers []Peer) error {
	up := v.Up(v.local)
	v.plan = planVXLAN(v.local.on().single(), peers)
	dev, err := v.conn.Link(v.local.Device)
	if err != nil {
		v.plan.routes = nil
		return errors.Join(up, err)
	}
	v.local.onDevice(dev.Index, v.mtu, v.plan.routes, v.plan.links)
	if up != nil {
		if OnlyPortsTaken(up) && !dev.Up {
			v.plan.routes = nil
		}
		return up
	}
	all := func(netip.Addr) bool { return true }
	return errors.Join(v.conn.SyncNeighbours(dev, v.plan.neighbours, all), v.conn.SyncFDB(dev, v.plan.fdb))
}

// Routes lead to the peers by their ends' addresses.
func (v *VXLAN) Routes() []nl.Route { return v.plan.routes }

// Remove deletes the device, and its entries and routes with it.
func (v *VXLAN) Remove(device string) ([]string, error) {
	dev, err := v.conn.Link(device)
	if errors.Is(err, nl.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !dev.IsWeft() {
		return nil, nil // somebody else's
	}
	return []string{"VXLAN device " + device}, v.conn.DeleteLink(device)
}

// vxlanOverhead is what VXLAN adds to each packet, in bytes (RFC 7348): inner
// Ethernet 14, VXLAN 8, UDP 8, and the outer IP header.
func vxlanOverhead(underlay netip.Addr) int {
	if underlay.Is6() {
		return 70
	}
	return 50
}
