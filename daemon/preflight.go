package daemon

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/encap/probe"
	"github.com/weft-net/weft/internal/nl"
	"github.com/weft-net/weft/mesh"
)

// preflight finds out whether this host can be a peer, and changes nothing.
// What it looks for is what later steps would stumble over half-way.
func (d *Daemon) preflight(known *peerState) error {
	if os.Geteuid() != 0 {
		return &api.Error{Code: api.CodeForbidden, Message: "weft changes the host's network, which takes root", Fix: "run it as root: sudo weft launch"}
	}
	var err error
	if d.conn, err = nl.Open(); err != nil {
		return err
	}
	if err := checkNFT(); err != nil {
		return err
	}
	if err := inScratch(checkKernel); err != nil {
		return err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return fmt.Errorf("read the id of this run of the machine: %w", err)
	}
	d.engines = engines(d.opts)
	d.boot = strings.TrimSpace(string(boot))
	if d.hostCookie, err = hostCookie(); err != nil {
		return err
	}
	underlays, forwarded, err := d.underlayAddresses()
	if err != nil {
		return err
	}
	d.underlay.Store(&underlays)
	if d.forwarded = forwarded; len(forwarded) > 0 {
		d.log.Info("addresses that are on no interface here are taken for those of a router that forwards weft's ports to this host", "addresses", forwarded)
	}
	if err := checkPort(d.opts.Port); err != nil {
		return err
	}
	if d.opts.CNI != nil {
		if err := checkCNI(cniFiles(*d.opts.CNI, d.opts)); err != nil {
			return err
		}
	}
	if known == nil {
		if err := checkProbePort(); err != nil {
			return err // a host that is known goes on without probes; see checkProbing
		}
		return d.checkDevices()
	}
	return d.checkSameHost(*known)
}

func checkNFT() error {
	path, err := exec.LookPath("nft")
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: "the program nft was not found", Fix: "install it: apt-get install nftables"}
	}
	if out, err := exec.Command(path, "list", "tables").CombinedOutput(); err != nil {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("nft does not work on this kernel: %s", firstLine(out, err)),
			Fix: "use a kernel with nf_tables (CONFIG_NF_TABLES)"}
	}
	return nil
}

func firstLine(out []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return err.Error()
	}
	return line
}

// checkKernel makes one of each device that every host has.
func checkKernel(conn *nl.Conn) error {
	if _, err := conn.CreateBridge("check-br", nil); err != nil {
		return missing("bridge", "bridge", err)
	}
	if _, err := conn.CreateVeth(nl.Veth{Host: "check-a", Peer: "check-b", MTU: 1500}); err != nil {
		return missing("veth pair", "veth", err)
	}
	return nil
}

func hostCookie() (uint64, error) {
	ns, err := nl.OpenNamespace("/proc/thread-self/ns/net")
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	cookie, err := ns.Cookie()
	if err != nil {
		err = &api.Error{Code: api.CodeFailed, Message: err.Error(), Fix: "use a kernel of Linux 5.14 or later"}
	}
	return cookie, err
}

// literal is the address that a target is, if it is one.
func literal(target string, port uint16) (netip.AddrPort, bool) {
	if ap, err := netip.ParseAddrPort(target); err == nil {
		return ap, true
	}
	addr, err := netip.ParseAddr(strings.Trim(target, "[]"))
	return netip.AddrPortFrom(addr, port), err == nil
}

// checkPort makes sure that nothing else has the gossip port.
func checkPort(port uint16) error {
	taken := func(proto string, err error) error {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("%s port %d is taken: %v", proto, port, err),
			Fix: fmt.Sprintf("`ss -lnp | grep :%d` shows by whom; end it, or give another --port", port)}
	}
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: int(port)})
	if err != nil {
		return taken("TCP", err)
	}
	defer l.Close()
	u, err := net.ListenUDP("udp", &net.UDPAddr{Port: int(port)})
	if err != nil {
		return taken("UDP", err)
	}
	return u.Close()
}

// checkProbePort makes sure that nothing else has the port of probes, which is the
// same on all hosts.
func checkProbePort() error {
	if err := probe.CheckPort(); err != nil {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("UDP port %d, by which hosts try out whether packets get through, is taken: %v", probe.Port, err),
			Fix: fmt.Sprintf("`ss -lnup | grep :%d` shows by whom; end it", probe.Port)}
	}
	return nil
}

// checkDevices makes sure, for a new peer, that its devices' names are free.
func (d *Daemon) checkDevices() error {
	for _, name := range append(d.opts.deviceNames(), d.opts.Bridge) {
		l, err := d.conn.Link(name)
		if errors.Is(err, nl.ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		what, fix := "a device", "give another name with --bridge"
		if l.IsWeft() {
			what, fix = "a device of an earlier weft", d.resetLost()+" removes it if the store of that weft is lost; else give its --state-dir, or another name with --bridge"
		}
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("there is %s named %s already", what, name), Fix: fix}
	}
	return nil
}

// resetLost is the command that removes what a weft has left here whose store is lost.
func (d *Daemon) resetLost() string {
	line := "`weft reset --force"
	if d.opts.StateDir != DefaultStateDir {
		line += " --state-dir " + d.opts.StateDir
	}
	if d.opts.Bridge != DefaultBridge || d.opts.StateDir != DefaultStateDir {
		line += " --bridge " + d.opts.Bridge
	}
	return line + "`"
}

// checkSettings makes sure that this host can have what the mesh has.
func (d *Daemon) checkSettings(s settings) error {
	if err := d.checkRange(s.Range); err != nil {
		return err
	}
	return d.checkTransport(s)
}

// checkRange makes sure that the mesh's range takes nothing from the host: a
// route inside of it, or around it, but for the default route.
func (d *Daemon) checkRange(rng netip.Prefix) error {
	routes, err := d.conn.Routes(false)
	if err != nil {
		return err
	}
	ours, err := d.conn.Routes(true)
	if err != nil {
		return err
	}
	weft := map[nl.Route]bool{}
	for _, r := range ours {
		weft[r] = true
	}
	theirs, err := d.othersDevices()
	if err != nil {
		return err
	}
	for _, r := range routes {
		if r.Dst.Bits() == 0 || weft[r] && !theirs[r.Device] || !r.Dst.Overlaps(rng) {
			continue
		}
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("the range %s overlaps the host's route to %s%s", rng, r.Dst, d.via(r)),
			Fix: "found the mesh with a range that is free on every host, such as --range 10.128.0.0/12, or remove the route"}
	}
	return nil
}

// othersDevices are those of other weft on this host.
func (d *Daemon) othersDevices() (map[int]bool, error) {
	links, err := d.conn.Links()
	out := map[int]bool{}
	for _, l := range links {
		out[l.Index] = l.IsWeft() && l.Name != d.opts.Bridge && !slices.Contains(d.opts.deviceNames(), l.Name)
	}
	return out, err
}

func (d *Daemon) via(r nl.Route) string {
	links, err := d.conn.Links()
	if err != nil {
		return ""
	}
	for _, l := range links {
		if l.Index == r.Device {
			return " on " + l.Name
		}
	}
	return ""
}

// checkSameHost refuses what would make an existing peer another one.
func (d *Daemon) checkSameHost(p peerState) error {
	if given, err := mesh.ParseToken(d.opts.Token); d.opts.Token != "" && (err != nil || given.MeshID != p.token.MeshID) {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("this host belongs to mesh %s already, and the token is for another", p.token.MeshID),
			Fix: "leave the token out to start it again, or `weft reset` to leave that mesh first"}
	}
	if was := d.keptBridge; d.opts.Bridge != was {
		return &api.Error{Code: api.CodeConflict, Message: fmt.Sprintf("this host's bridge is %s, not %s", was, d.opts.Bridge),
			Fix: "leave --bridge as it was, or `weft reset` first"}
	}
	if err := p.settings.agrees(d.opts); err != nil {
		return err
	}
	return d.checkSettings(p.settings)
}

// machineID tells this machine from a clone of its disk, where the system
// gives each its own (machine-id(5)); "" where there is none.
func machineID() string {
	b, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
