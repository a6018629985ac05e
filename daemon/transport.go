package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/internal/wgproc"
)

// drivers make the driver of each transport.
func drivers(o Options, log *slog.Logger) map[string]func() (encap.Driver, error) {
	return map[string]func() (encap.Driver, error){
		EncapWireGuard: func() (encap.Driver, error) {
			return encap.NewWireGuard(log, processes(o), encap.Carrier(o.WireGuard))
		},
		EncapVXLAN: func() (encap.Driver, error) { return encap.NewVXLAN(log) },
	}
}

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
	if d.settings.Encap != EncapWireGuard {
		return
	}
	renewed, err := processes(d.opts).Renew(d.tunnelDevice())
	if err != nil {
		d.log.Warn("userspace WireGuard goes on as it is", "err", err)
	}
	if renewed {
		step("renew userspace WireGuard", "a process of this version has taken over, and no packet was lost")
	}
}

// removeTunnels removes what any transport has in the kernel: which one it was
// cannot be asked of a store that is damaged.
func removeTunnels(o Options, log *slog.Logger) (removed []string, err error) {
	for name, device := range o.tunnelDevices() {
		driver, e := drivers(o, log)[name]()
		if e == nil {
			var gone []string
			gone, e = driver.Remove(device)
			removed, e = append(removed, gone...), errors.Join(e, driver.Close())
		}
		err = errors.Join(err, e)
	}
	return removed, err
}

// tunnelDevice is the name of the device to other hosts.
func (d *Daemon) tunnelDevice() string { return d.opts.tunnelDevices()[d.settings.Encap] }

// checkTransport makes sure that this host can carry traffic as the mesh does,
// and that the port for it is free.
func (d *Daemon) checkTransport(s settings) error {
	port, device := s.tunnelPort(), d.opts.tunnelDevices()[s.Encap]
	if port == d.opts.Port {
		return &api.Error{Code: api.CodeInvalid, Message: fmt.Sprintf("gossip cannot have UDP port %d, which the mesh uses for %s", port, s.Encap),
			Fix: "give another --port"}
	}
	check := checkVXLAN
	if s.Encap == EncapWireGuard {
		check = func(conn *nl.Conn) error { return checkWireGuard(conn, encap.Carrier(d.opts.WireGuard)) }
	}
	if err := inScratch(check); err != nil {
		return err
	}
	if d.hasLink(device) {
		return nil // the port is ours already
	}
	u, err := net.ListenUDP("udp4", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("UDP port %d, which the mesh uses for %s, is taken: %v", port, s.Encap, err),
			Fix: fmt.Sprintf("`ss -lnup | grep :%d` shows by whom; end it, or found the mesh with another --%s-port", port, s.Encap)}
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
			Fix: "load one of the two with `modprobe wireguard` or `modprobe tun`, or found the mesh with --encap vxlan, which does not encrypt"}
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
