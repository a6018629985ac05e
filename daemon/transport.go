package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/ula"
	"github.com/weft-net/weft/internal/wgproc"
)

// processes are those of userspace WireGuard.
func processes(o Options) wgproc.Process { return wgproc.Own(o.StateDir, software) }

// processes are those that run.
func (d *Daemon) processes() []wgproc.Info {
	running, err := processes(d.opts).Running()
	if err != nil {
		d.log.Warn("cannot tell which process carries packets", "err", err)
	}
	return running
}

// renewProcess has a process that another build of weft has left, and which
// carries packets, succeeded by one of this build. Where that cannot be, the old
// one goes on.
func (d *Daemon) renewProcess(step func(what, detail string)) {
	if !slices.Contains(d.can, encap.TransportWireGuard) {
		return
	}
	for _, device := range d.opts.tunnelDevices()[encap.TransportWireGuard] {
		renewed, err := processes(d.opts).Renew(device)
		if err != nil {
			d.log.Warn("userspace WireGuard goes on as it is", "device", device, "err", err)
		}
		if renewed {
			step("renew userspace WireGuard", "a process of this version has taken over "+device+", and no packet was lost")
		}
	}
}

// drivers make the driver of each transport.
func drivers(o Options, k keep, own ula.Ranges, log *slog.Logger) func(transport string) (encap.Driver, error) {
	return func(transport string) (encap.Driver, error) {
		switch transport {
		case encap.TransportDirect:
			return encap.NewDirect(log, k, own)
		case encap.TransportVXLAN:
			return encap.NewVXLAN(log)
		}
		return encap.NewWireGuard(log, processes(o), encap.Carrier(o.WireGuard))
	}
}

// removeTunnels removes what any transport has in the kernel: which there were
// cannot be asked of a store that is damaged. The sysctls of devices that are
// not weft's are written back with the others.
func removeTunnels(o Options, k keep, own ula.Ranges, log *slog.Logger) (removed []string, err error) {
	tunnels, err := encap.NewTunnels(log, drivers(o, k, own, log))
	if err != nil {
		return nil, err
	}
	instances := []encap.Instance{{Transport: encap.TransportDirect}}
	for transport, devices := range o.tunnelDevices() {
		for _, device := range devices {
			instances = append(instances, encap.Instance{Transport: transport, Device: device})
		}
	}
	removed, err = tunnels.Remove(instances)
	return removed, errors.Join(err, tunnels.Close())
}

// candidates are the transports that links of this host may come to use, the
// first of which is the one that most will.
func candidates(mode encap.Mode, trusted []netip.Prefix) []string {
	switch {
	case mode == encap.ModeVXLAN:
		return []string{encap.TransportVXLAN}
	case mode == encap.ModeDirect:
		return []string{encap.TransportDirect, encap.TransportVXLAN}
	case mode == encap.ModeAuto && len(trusted) > 0:
		return []string{encap.TransportWireGuard, encap.TransportVXLAN, encap.TransportDirect}
	}
	return []string{encap.TransportWireGuard}
}

// inTheClear says which traffic may be in the clear, as whoever launches has asked for;
// "" for none.
func (d *Daemon) inTheClear() string {
	var trusted []string
	for _, p := range d.opts.Trusted {
		trusted = append(trusted, p.String())
	}
	switch mode := d.settings.mode(); {
	case !mode.Encrypts():
		return fmt.Sprintf("traffic to other hosts is NOT ENCRYPTED, as the mesh was founded with --encap %s", mode)
	case mode == encap.ModeAuto && len(trusted) > 0:
		return fmt.Sprintf("traffic to hosts that trust it, too, is NOT ENCRYPTED within %s", strings.Join(trusted, ", "))
	}
	return ""
}

// checkTransport finds out which transports of the mesh this host can do. One
// is enough, if others can serve.
func (d *Daemon) checkTransport(s settings) error {
	d.can = nil
	var missing error
	for _, transport := range candidates(s.mode(), d.opts.Trusted) {
		err := d.canDo(transport, s)
		if err == nil {
			d.can = append(d.can, transport)
			continue
		}
		missing = cmp.Or(missing, err)
		d.log.Warn("this host cannot do a transport of the mesh", "transport", transport, "err", oneLine(err))
	}
	if len(d.can) == 0 {
		return missing
	}
	return nil
}

// canDo makes sure that this host can do a transport, and that the port for it
// is free.
func (d *Daemon) canDo(transport string, s settings) error {
	if transport == encap.TransportDirect {
		return nil // it takes what every kernel has
	}
	port, device := s.port(transport), d.opts.tunnelDevices()[transport][0]
	if port == d.opts.Port {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("gossip cannot have UDP port %d, which the mesh uses for %s", port, transport),
			Fix: "give another --port"}
	}
	check := checkVXLAN
	if transport == encap.TransportWireGuard {
		check = func(conn *nl.Conn) error { return checkWireGuard(conn, encap.Carrier(d.opts.WireGuard)) }
	}
	if err := inScratch(check); err != nil {
		return err
	}
	if d.hasLink(device) {
		return nil // the port is ours already
	}
	u, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("UDP port %d, which the mesh uses for %s, is taken: %v", port, transport, err),
			Fix: fmt.Sprintf("`ss -lnup | grep :%d` shows by whom; end it, or found the mesh with another --%s-port", port, transport)}
	}
	return u.Close()
}

func checkVXLAN(conn *nl.Conn) error {
	_, err := conn.CreateVXLAN("check", nil, 1450, nl.VXLAN{VNI: 1, Port: DefaultVXLANPort, Local: netip.MustParseAddr("127.0.0.1")})
	if err != nil {
		return missing("VXLAN device", "vxlan", err)
	}
	return nil
}

// checkWireGuard is content with a kernel that lets a process be WireGuard,
// unless that is not allowed.
func checkWireGuard(conn *nl.Conn, carrier encap.Carrier) error {
	if carrier != encap.CarrierUserspace {
		_, err := conn.CreateWireGuard("check")
		if !errors.Is(err, nl.ErrUnsupported) {
			return err
		}
		if carrier == encap.CarrierKernel {
			return &api.Error{Code: api.CodeFailed, Message: "this kernel has no WireGuard, and --wireguard kernel allows nothing else",
				Fix: "load it with `modprobe wireguard`, or launch with --wireguard auto, which is slower then"}
		}
	}
	f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("userspace WireGuard takes a TUN device, and this kernel cannot make one: %v", err),
			Fix: "load one of the two with `modprobe wireguard` or `modprobe tun`, or trust the network with --trusted-subnets, which does not encrypt"}
	}
	return f.Close()
}

// inScratch runs a check in a namespace that nobody sees and that vanishes with
// all that is made in it.
func inScratch(check func(*nl.Conn) error) error {
	ns, err := nl.NewNamespace()
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: err.Error(), Fix: "use a kernel with network namespaces (CONFIG_NET_NS)"}
	}
	defer ns.Close()
	conn, err := nl.OpenIn(ns)
	if err != nil {
		return err
	}
	defer conn.Close()
	return check(conn)
}

func missing(what, module string, err error) error {
	return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("this kernel cannot make a %s: %v", what, errors.Unwrap(err)),
		Fix: "load it with `modprobe " + module + "`, or use a kernel that has it"}
}
