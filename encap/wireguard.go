package encap

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/wgctrl"
	"golang.zx2c4.com/wireguard/wgctrl/wgtypes"

	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/wgproc"
)

// startPause is the least time between two starts of the process: one that ends
// at once must not keep the host busy.
const startPause = 2 * time.Second

// Carrier says who carries the packets of WireGuard.
type Carrier string

// The carriers. Auto is the kernel, or a process where the kernel has none; a
// device that is there already stays what it is.
const (
	CarrierAuto      Carrier = "auto"
	CarrierKernel    Carrier = "kernel"
	CarrierUserspace Carrier = "userspace"
)

// allows tells whether a device of that kind may carry the packets.
func (c Carrier) allows(kind string) bool {
	return kind == nl.KindWireGuard && c != CarrierUserspace || kind == nl.KindTUN && c != CarrierKernel
}

// WireGuard is the Driver for WireGuard: one device, of the kernel or of a
// process of its own, and for each peer exactly the prefixes that are its own.
// Container traffic is encrypted and authenticated.
type WireGuard struct {
	log       *slog.Logger
	conn      *nl.Conn
	carrier   Carrier
	control   *control
	process   wgproc.Process
	under     underlay
	local     Local
	mtu       int // of the device
	userspace bool
	started   time.Time // when the process was last started
	plan      planWG
	searches  map[PublicKey]search // for the peers' ends
}

// NewWireGuard returns the driver for the caller's network namespace. The
// process is what it starts where not the kernel is the carrier.
func NewWireGuard(log *slog.Logger, process wgproc.Process, carrier Carrier) (*WireGuard, error) {
	conn, err := nl.Open()
	if err != nil {
		return nil, err
	}
	client, err := wgctrl.New()
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("open the control of WireGuard: %w", err)
	}
	return &WireGuard{log: log, conn: conn, carrier: carrier, control: newControl(client), process: process,
		searches: map[PublicKey]search{}, under: underlay{log: log, conn: conn}}, nil
}

// Name is "wireguard".
func (w *WireGuard) Name() string { return TransportWireGuard }

// MTU is what fits into the tunnel, in bytes.
func (w *WireGuard) MTU() int { return w.mtu }

// Encrypted is true.
func (w *WireGuard) Encrypted() bool { return true }

// Userspace tells whether a process carries the packets.
func (w *WireGuard) Userspace() bool { return w.userspace }

// Links are the links as they were last set.
func (w *WireGuard) Links() []Link { return w.plan.links }

// Close lets go of the kernel and of the process, which go on forwarding.
func (w *WireGuard) Close() error {
	w.conn.Close()
	return w.control.close()
}

// Up makes the device, with this host's key and port.
func (w *WireGuard) Up(local Local) error {
	_, err := w.up(local)
	return err
}

func (w *WireGuard) up(local Local) (nl.Link, error) {
	mtu, err := w.under.fit(local, wireguardOverhead(local.Underlay))
	if err != nil {
		return nl.Link{}, err
	}
	w.local, w.mtu = local, mtu
	dev, err := w.device()
	if err != nil {
		return dev, err
	}
	w.userspace = dev.Kind == nl.KindTUN
	// The key comes before the first packet.
	_, err = w.configure(func(have *wgtypes.Device) *wgtypes.Config { return ownChanges(local, have) })
	if errors.Is(err, errSilent) && w.userspace && w.control.hangs() {
		w.log.Warn("userspace WireGuard does not answer any more; it is started anew", "device", local.Device)
		if dev, err = w.replaceProcess(); err == nil {
			_, err = w.configure(func(have *wgtypes.Device) *wgtypes.Config { return ownChanges(local, have) })
		}
	}
	if err != nil {
		return dev, err
	}
	if err := withoutLinkLocal(local.Device); err != nil {
		return dev, err
	}
	err = w.conn.AdjustLink(dev, nl.LinkState{Alias: local.Alias, MTU: local.deviceMTU(mtu), Up: true})
	if errors.Is(err, unix.EADDRINUSE) {
		return dev, portTaken(local, err)
	}
	if err != nil {
		return dev, err
	}
	return dev, forwards(w.conn, dev, local)
}

// device finds or makes the device.
func (w *WireGuard) device() (nl.Link, error) {
	name := w.local.Device
	dev, err := w.conn.Link(name)
	switch {
	case err == nil && dev.IsWeft() && w.carrier.allows(dev.Kind):
		return dev, nil
	case err == nil && dev.IsWeft() && CarrierAuto.allows(dev.Kind):
		if err := errors.Join(w.endProcess(), w.conn.DeleteLink(name)); err != nil {
			return dev, err
		}
	case err == nil:
		return dev, fmt.Errorf("device %s is not weft's: remove it (ip link delete %s), or give weft another name", name, name)
	case !errors.Is(err, nl.ErrNotFound):
		return dev, err
	}
	if w.carrier != CarrierUserspace {
		dev, err = w.kernelDevice()
		if w.carrier == CarrierKernel || !errors.Is(err, nl.ErrUnsupported) {
			return dev, err
		}
	}
	// One that has no device any more must not be what has the port.
	if err := w.endProcess(); err != nil {
		return dev, err
	}
	if err := checkPort(w.local); err != nil {
		return dev, err // else a process would be started for nothing in each pass
	}
	if since := time.Since(w.started); since < startPause {
		return dev, fmt.Errorf("userspace WireGuard ended within %s of its start: wireguard-%s.log in %s says why", since.Round(time.Millisecond), name, w.process.Dir)
	}
	w.started = time.Now()
	if err := w.process.Start(name, w.local.Alias, w.local.deviceMTU(w.mtu)); err != nil {
		return dev, err
	}
	w.log.Info("userspace WireGuard started", "device", name)
	return w.conn.Link(name)
}

// kernelDevice makes a device of the kernel.
func (w *WireGuard) kernelDevice() (nl.Link, error) {
	dev, err := w.conn.CreateWireGuard(w.local.Device)
	if err != nil {
		return dev, err
	}
	// At once: a device without the mark is somebody else's.
	err = w.conn.AdjustLink(dev, nl.LinkState{Alias: w.local.Alias})
	return dev, errors.Join(err, w.control.renew())
}

// configure makes the changes that are found in the device as it is, and tells
// whether there were any.
func (w *WireGuard) configure(changes func(have *wgtypes.Device) *wgtypes.Config) (changed bool, err error) {
	have, err := w.control.device(w.local.Device)
	if err != nil {
		return false, fmt.Errorf("look at WireGuard device %s: %w", w.local.Device, err)
	}
	c := changes(have)
	if c == nil {
		return false, nil
	}
	err = w.control.configure(w.local.Device, *c)
	if errors.Is(err, unix.EADDRINUSE) {
		err = errors.Join(portTaken(w.local, err), w.endProcess()) // the process says from now on that it has the port
	}
	if err != nil {
		return false, fmt.Errorf("configure WireGuard device %s: %w", w.local.Device, err)
	}
	return true, nil
}

// headStart is what the other end of a new tunnel gets to begin the session.
const headStart = 150 * time.Millisecond

// connect makes the device's peers be these ends. Where some are new it looks
// twice: they may be due for what comes second.
func (w *WireGuard) connect(ends []tunnelEnd) error {
	changes := func(have *wgtypes.Device) *wgtypes.Config {
		w.count(have)
		return peerChanges(w.local.Key.Public(), ends, have, w.searches, time.Now())
	}
	changed, err := w.configure(changes)
	if err != nil {
		return err
	}
	if !changed {
		return nil
	}
	_, err = w.configure(func(have *wgtypes.Device) *wgtypes.Config {
		c := changes(have)
		if c != nil {
			time.Sleep(headStart)
		}
		return c
	})
	return err
}

// Set makes the device's peers be these, with their prefixes, and removes all
// others.
func (w *WireGuard) Set(peers []Peer) error {
	_, up := w.up(w.local)
	w.plan = planWireGuard(w.local.on(), peers)
	dev, err := w.conn.Link(w.local.Device)
	taken := OnlyPortsTaken(up)
	if err != nil {
		w.plan.routes = nil
		if taken && errors.Is(err, nl.ErrNotFound) {
			return up
		}
		return errors.Join(up, err)
	}
	w.local.onDevice(dev.Index, w.mtu, w.plan.routes, w.plan.links)
	switch {
	case taken && !dev.Up:
		w.plan.routes = nil
	case up != nil && !taken:
		return up
	}
	return errors.Join(up, w.connect(w.plan.ends))
}

// count notes what went over each link.
func (w *WireGuard) count(have *wgtypes.Device) {
	traffic := map[PublicKey]*Traffic{}
	for _, p := range have.Peers {
		t := &Traffic{Received: p.ReceiveBytes, Sent: p.TransmitBytes, Heard: p.LastHandshakeTime}
		if p.Endpoint != nil {
			from := p.Endpoint.AddrPort()
			t.From = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		}
		traffic[PublicKey(p.PublicKey)] = t
	}
	keys := map[uuid.UUID]PublicKey{}
	for _, end := range w.plan.ends {
		keys[end.peer] = end.key
	}
	for i, l := range w.plan.links {
		w.plan.links[i].Traffic = traffic[keys[l.Peer]]
	}
}

// Routes lead to the peers by the device: WireGuard finds the end by the address.
func (w *WireGuard) Routes() []nl.Route { return w.plan.routes }

// End ends the processes, where there are any, and their devices with them.
func (w *WireGuard) End() error {
	_, err := w.process.EndAll()
	return err
}

func (w *WireGuard) endProcess() error {
	_, err := w.process.End(w.local.Device)
	return err
}

// replaceProcess ends a process that hangs, with its device, and makes both anew.
func (w *WireGuard) replaceProcess() (nl.Link, error) {
	if err := w.endProcess(); err != nil {
		return nl.Link{}, err
	}
	w.control.forget()
	return w.device()
}

// Remove ends the process and deletes the device, with its routes.
func (w *WireGuard) Remove(device string) (removed []string, err error) {
	ended, err := w.process.Remove(device)
	if ended {
		removed = append(removed, "userspace WireGuard of "+device)
	}
	dev, e := w.conn.Link(device)
	if errors.Is(e, nl.ErrNotFound) || e == nil && !dev.IsWeft() {
		return removed, err
	}
	if e == nil {
		e = w.conn.DeleteLink(device)
		removed = append(removed, "WireGuard device "+device)
	}
	return removed, errors.Join(err, e)
}

// wireguardOverhead is what WireGuard adds to each packet, in bytes: its header
// 16, the authentication 16, UDP 8, and the outer IP header.
func wireguardOverhead(underlay netip.Addr) int {
	if underlay.Is6() {
		return 80
	}
	return 60
}
