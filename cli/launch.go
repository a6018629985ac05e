package cli

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/daemon"
)

// launchFlags are those of launch that are not the daemon's own options.
type launchFlags struct {
	opts       daemon.Options
	rng        string
	advertise  []string
	mtu        string
	tokenFile  string
	logFile    string
	debug      bool
	masquerade bool
	observer   bool
	reclaim    time.Duration
	release    time.Duration
	subnet     string
	rotate     time.Duration
	trusted    string
	useCNI     bool
	cni        api.CNISettings
	foreground bool
}

func (a *app) launch() *cobra.Command {
	l := launchFlags{opts: daemon.DefaultOptions()}
	cmd := &cobra.Command{
		Use:   "launch [PEER…]",
		Short: "Start this host's daemon; found a mesh, or join one",
		Long: `Start this host's daemon and return when containers can be attached.

Without a PEER to join, the first launch founds a mesh and prints the line to
run on the next host. Later launches on the same host start it again as it was,
with the flags that it was given before; --advertise, --mtu, --name and
--default-subnet are taken back by auto.
Range, block size, encapsulation and its ports belong to the mesh: they are given
when it is founded, and joining hosts take them over.

Traffic between hosts is encrypted by WireGuard. Where two hosts both name the
network between them in --trusted-subnets, it takes the fastest way that works:
plain routes on one segment, or VXLAN, which are in the clear. A mesh founded with
--encap wireguard encrypts always; with --encap vxlan or --encap direct (direct on
one segment, VXLAN beyond) it never does.

A PEER is an address or a name, with a port or without, of which all addresses
count, and which is looked up again and again; file:/PATH of a list with one on each line; or
exec:/PROGRAM with its arguments, which prints such a list, as cloud tools can; or
multicast: for all hosts with the same token on the network segment.
What is given replaces what was given before. The same as at the last launch
changes nothing, so that what weft connect and weft forget did since then stays.

Several hosts found a mesh together with --founders and one token (weft token
new): each waits for the others, and all get an equal part of the range, as far as whole
prefixes allow. A host that is not on the list joins those that are, and so does one
that finds the mesh there already: every host may be given the same options. An
--observer takes no part of it until a container needs an address there.

A launch refuses a store that is damaged, and leaves it as it is. What was in it
is lost to this host, which can only start as a new peer: --set-aside-store
renames the store to weft.db.corrupt-TIME, takes the containers off the network
and starts with a new one. A store that can be read is never set aside.

Of two pods on a host, the newer one's daemon replaces the other by --when-running
replace: userspace WireGuard passes on without a packet lost, and the daemon that
was asked to make room waits, and comes back if the other ends.`,
		Example: `  weft launch
  weft launch --range 10.128.0.0/12
  weft launch --trusted-subnets 192.168.1.0/24   # in the clear to hosts that say so too
  weft launch --join 192.168.1.1 --token weft1-…
  WEFT_TOKEN=weft1-… weft launch 192.168.1.1 192.168.1.2
  weft launch --founders 192.168.1.1,192.168.1.2,192.168.1.3 --token-file token  # the same on all hosts
  weft launch --foreground      # for systemd, or a container
  weft launch --foreground --when-running replace  # where an update starts the new container first
  weft launch --set-aside-store --join 192.168.1.1 --token weft1-…  # after damage`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if l.foreground {
				return a.foreground(cmd, &l, args)
			}
			if err := l.complete(a, cmd, args); err != nil {
				return err
			}
			return a.background(cmd, l)
		},
	}
	o, f := &l.opts, cmd.Flags()
	f.StringSliceVar(&o.Join, "join", nil, "`peer` to join: an address, a name, multicast:, file:PATH or exec:PROGRAM; the same as the arguments")
	f.StringVar(&o.Token, "token", "", "the mesh's `token`; better in WEFT_TOKEN or a file, since others can see arguments")
	f.StringSliceVar(&o.Founders, "founders", nil, "`addresses` of the hosts that found a mesh together; any other host joins them")
	f.StringVar(&l.tokenFile, "token-file", "", "`file` that holds the token, - for standard input")
	f.StringVar(&o.Name, "name", "", "this host's `name` for people; auto for the host's (default auto)")
	f.StringVar(&l.rng, "range", "", "`prefix` of all containers' addresses (default "+daemon.DefaultRange.String()+", or the mesh's)")
	f.BoolVar(&o.NoIPv6, "no-ipv6", false, "found a mesh whose containers have IPv4 addresses alone")
	f.IntVar(&o.BlockBits, "block-bits", 0, "prefix `length` of the blocks that the range is shared out in (default by the range, or the mesh's)")
	f.StringVar(&o.Encap, "encap", "", fmt.Sprintf("`transports` between hosts: %s (default %s, or the mesh's)", daemon.ModeList, daemon.DefaultEncap))
	f.StringVar(&l.trusted, "trusted-subnets", "", "`networks` between hosts in which traffic may be in the clear, if the other host says so too; none to take it back")
	f.StringVar(&o.WireGuard, "wireguard", "", fmt.Sprintf("`who` carries WireGuard's packets: %s, %s, or %s for the kernel where it can (default %[3]s)",
		daemon.WireGuardKernel, daemon.WireGuardUserspace, daemon.WireGuardAuto))
	f.Uint16Var(&o.WireGuardPort, "wireguard-port", 0, fmt.Sprintf("UDP `port` of WireGuard (default %d, or the mesh's)", daemon.DefaultWGPort))
	f.Uint16Var(&o.VXLANPort, "vxlan-port", 0, fmt.Sprintf("UDP `port` of VXLAN (default %d, or the mesh's)", daemon.DefaultVXLANPort))
	f.Uint16Var(&o.Port, "port", 0, fmt.Sprintf("TCP and UDP `port` of gossip (default %d)", daemon.DefaultPort))
	f.StringSliceVar(&l.advertise, "advertise", nil, "`address` by which other hosts reach this one; several, in the order in which they are tried: A,B; one of a router that forwards to this host, too; auto for by the routes (default auto)")
	f.StringVar(&o.Bridge, "bridge", "", "`name` of the bridge (default "+daemon.DefaultBridge+")")
	f.StringVar(&l.mtu, "mtu", "", "MTU of the containers in `bytes`; auto for what the underlay allows (default auto)")
	f.BoolVar(&l.masquerade, "masquerade", true, "hide the containers behind the host towards the outside")
	f.BoolVar(&l.observer, "observer", false, "take no address space until a container needs it, and never decide on it")
	f.DurationVar(&l.reclaim, "reclaim-after", daemon.DefaultReclaimAfter, "how long another host may be gone before its addresses are given away; negative for never")
	f.DurationVar(&l.rotate, "rotate-keys", -time.Second, "how old WireGuard's keys may become before this host has the mesh change them (see weft keys); negative for never")
	f.DurationVar(&l.release, "release-after", daemon.DefaultReleaseAfter, "how long a container that has ended keeps its address; negative for as long as its engine knows it")
	f.StringVar(&o.DockerSocket, "docker-socket", "", "`socket` of Docker (default "+daemon.DefaultDockerSocket+")")
	f.StringVar(&l.subnet, "default-subnet", "", "`prefix` in the range from which containers get addresses; auto for all of it (default auto)")
	f.BoolVar(&l.useCNI, "cni", false, "install the CNI plugin and its network once containers can be attached; see weft cni install")
	cniFlags(f, "cni-", &l.cni)
	f.StringVar(&o.StateDir, "state-dir", o.StateDir, "state `directory`")
	f.BoolVar(&o.SetAside, "set-aside-store", false, "where the store cannot be read, keep it under another name and be a new peer")
	f.StringVar(&o.SocketGroup, "socket-group", o.SocketGroup, "`group` that may use the control socket, which amounts to root")
	f.StringVar(&l.logFile, "log-file", "", "log `file` (default standard error in the foreground, weft.log in the state directory in the background)")
	f.BoolVar(&l.debug, "debug", false, "log more")
	f.BoolVar(&l.foreground, "foreground", false, "stay; end on SIGTERM or SIGINT")
	f.StringVar(&o.WhenRunning, "when-running", daemon.RunningFail, fmt.Sprintf("`what` to do where a daemon runs already: %s, %s for its end, or %s it, if it was launched so too",
		daemon.RunningFail, daemon.RunningWait, daemon.RunningReplace))
	return a.withOutput(cmd, formatsOne)
}

// complete turns flags and arguments into options, and checks them.
func (l *launchFlags) complete(a *app, cmd *cobra.Command, args []string) (err error) {
	o := &l.opts
	o.Join = append(o.Join, args...)
	if cmd.Flags().Changed("masquerade") {
		o.Masquerade = &l.masquerade
	}
	if cmd.Flags().Changed("observer") {
		o.Observer = &l.observer
	}
	if cmd.Flags().Changed("reclaim-after") {
		if o.ReclaimAfter = l.reclaim; o.ReclaimAfter == 0 {
			return usage("--reclaim-after 0 would give addresses away at once; say -1s for never")
		}
	}
	if cmd.Flags().Changed("rotate-keys") {
		if o.RotateKeys = l.rotate; o.RotateKeys == 0 {
			return usage("--rotate-keys 0 would change keys all the time; say -1s for never")
		}
	}
	if cmd.Flags().Changed("release-after") {
		if o.ReleaseAfter = l.release; o.ReleaseAfter == 0 {
			return usage("--release-after 0 would free an address in the middle of a restart; say 1s")
		}
	}
	if err := l.completeAutomatic(); err != nil {
		return err
	}
	if cmd.Flags().Changed("trusted-subnets") {
		if o.Trusted, err = parseTrusted(l.trusted); err != nil {
			return err
		}
	}
	for _, name := range []string{"cni-bin-dir", "cni-conf-dir", "cni-network", "cni-chain"} {
		if !l.useCNI && cmd.Flags().Changed(name) {
			return usage("--%s means nothing without --cni", name)
		}
	}
	if l.useCNI {
		if err := absolute(&l.cni); err != nil {
			return err
		}
		o.CNI = &l.cni
	}
	if o.WhenRunning != daemon.RunningFail && !l.foreground {
		return usage("--when-running %s is for a daemon in the foreground", o.WhenRunning)
	}
	if cmd.Flags().Changed("port") && o.Port == 0 {
		return usage("the gossip port is 0")
	}
	if a.timeout > 0 {
		o.Timeout = a.timeout
	}
	if l.rng != "" {
		if o.Range, err = netip.ParsePrefix(l.rng); err != nil {
			return usage("range %q is not a prefix such as 10.32.0.0/12", l.rng)
		}
	}
	if l.tokenFile != "" {
		if o.Token != "" {
			return usage("the token was given twice: by --token (or WEFT_TOKEN) and by --token-file")
		}
		if o.Token, err = readToken(a.Stdin, l.tokenFile); err != nil {
			return err
		}
	}
	o.Token = strings.TrimSpace(o.Token)
	if err := l.completePaths(a); err != nil {
		return err
	}
	if err := o.Validate(); err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return &api.Error{Code: api.CodeForbidden, Message: "weft changes the host's network, which takes root", Fix: "run it as root: sudo weft launch"}
	}
	return nil
}

// auto takes back what an earlier launch was given.
const auto = "auto"

// completeAutomatic is complete for the flags that take auto.
func (l *launchFlags) completeAutomatic() (err error) {
	o := &l.opts
	o.Automatic = daemon.Automatic{Name: o.Name == auto, Advertise: len(l.advertise) == 1 && l.advertise[0] == auto, MTU: l.mtu == auto, Subnet: l.subnet == auto}
	if o.Automatic.Name {
		o.Name = ""
	}
	if l.subnet != "" && !o.Automatic.Subnet {
		if o.Subnet, err = netip.ParsePrefix(l.subnet); err != nil {
			return usage("subnet %q is not a prefix such as 10.40.0.0/16", l.subnet)
		}
	}
	if l.mtu != "" && !o.Automatic.MTU {
		if o.MTU, err = strconv.Atoi(l.mtu); err != nil {
			return usage("MTU %q is neither a number of bytes nor auto", l.mtu)
		}
	}
	if o.Automatic.Advertise {
		return nil
	}
	for i, text := range l.advertise {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return usage("%q is not an address to advertise", text)
		}
		if i == 0 {
			o.Advertise = addr
		} else {
			o.AdvertiseAlso = append(o.AdvertiseAlso, addr)
		}
	}
	return nil
}

// parseTrusted reads a list of networks; "" and none are the empty one.
func parseTrusted(text string) ([]netip.Prefix, error) {
	out := []netip.Prefix{}
	if text == "" || text == "none" {
		return out, nil
	}
	for _, part := range strings.Split(text, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(part))
		if err != nil {
			return nil, usage("trusted subnet %q is not a network such as 192.168.1.0/24", part)
		}
		out = append(out, p)
	}
	return out, nil
}

// completePaths makes paths absolute, since the daemon in the background works
// elsewhere. An empty one is left to Validate.
func (l *launchFlags) completePaths(a *app) (err error) {
	o := &l.opts
	for _, path := range []*string{&o.StateDir, &a.socket, &l.logFile} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil {
			return fmt.Errorf("make the path %s absolute: %w", *path, err)
		}
	}
	o.Socket = a.socket
	if l.logFile == "" || filepath.Dir(l.logFile) == o.StateDir {
		return nil // the daemon makes the state directory
	}
	if st, err := os.Stat(filepath.Dir(l.logFile)); err != nil || !st.IsDir() {
		return usage("the log file %s has no directory to be in: make it first", l.logFile)
	}
	return nil
}

func readToken(stdin io.Reader, path string) (string, error) {
	const most = 4096
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", usage("the token file: %s", err)
		}
		defer f.Close()
		stdin = f
	}
	b, err := io.ReadAll(io.LimitReader(stdin, most))
	if err != nil {
		return "", usage("the token file: %s", err)
	}
	return string(b), nil
}

// foreground is the daemon's whole life. A parent that waits for it is told of
// each step over a pipe, else they are printed.
func (a *app) foreground(cmd *cobra.Command, l *launchFlags, args []string) error {
	report, err := a.reporter()
	if err != nil {
		return err
	}
	if err := l.complete(a, cmd, args); err != nil {
		report(event{Error: asError(err)})
		return err
	}
	ctx, stop := a.interruptible()
	defer stop()
	level := slog.LevelInfo
	if l.debug {
		level = slog.LevelDebug
	}
	out := a.Stderr
	if l.logFile != "" {
		late := &lateFile{path: l.logFile}
		defer late.Close()
		out = late
	}
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level}))
	err = daemon.Run(ctx, l.opts, log,
		func(s daemon.Step) { report(event{Step: &s}) },
		func(r daemon.Ready) { report(event{Ready: &r}); notifySystemd() })
	if errors.Is(err, daemon.ErrReplaced) {
		err = standBy(cmd, l)
	}
	if err != nil {
		report(event{Error: asError(err)})
	}
	return err
}

// printStep shows a step and how long it took.
func (a *app) printStep(s daemon.Step) {
	mark := " "
	if terminal(a.Stderr) {
		mark = "✓"
	}
	a.say("%s %-28s %8s  %s", mark, s.Name, s.Took.Round(100*time.Microsecond), s.Detail)
}

// printReady shows what a launch has come to; the line for the next host is
// the data.
func (a *app) printReady(r daemon.Ready) error {
	if a.output == "json" {
		return a.json(r)
	}
	a.printReadiness(r)
	a.say("Attach a container with `weft attach NAME`. On the next host, run:")
	_, err := fmt.Fprintln(a.Stdout, r.Join)
	return err
}

// printReadiness leaves out the line for the next host: what a daemon in the
// foreground prints is logged, and the line has the token in it.
func (a *app) printReadiness(r daemon.Ready) {
	verb := "joined the mesh"
	if r.Founded {
		verb = "founded a mesh"
	}
	if r.Gateway.IsValid() {
		a.say("%s %s: %d peers, gateway %s, address space %s", r.Name, verb, r.Peers, r.Gateway.Addr(), join(r.Prefixes))
	} else {
		a.say("%s %s: %d peers, no address space until a container needs it", r.Name, verb, r.Peers)
	}
	if r.Refused != "" {
		a.say("It is alone: %s. It goes on trying; `weft status` says what to do.", r.Refused)
	}
	if r.SetAside != "" {
		a.say("The store could not be read and is now %s. This host is a new peer: attach its containers again.", r.SetAside)
	}
}

// childArgs are the flags for the daemon in the background: all that were
// given, by whatever way, but for the token.
func childArgs(cmd *cobra.Command, join []string) []string {
	out := []string{"launch", "--foreground"}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch f.Name {
		case "foreground", "token", "token-file", "output", "join":
		default:
			values := []string{f.Value.String()}
			if list, ok := f.Value.(pflag.SliceValue); ok {
				values = asList(list.GetSlice())
			}
			for _, v := range values {
				out = append(out, "--"+f.Name+"="+v)
			}
		}
	})
	for _, j := range asList(join) {
		out = append(out, "--join="+j)
	}
	return out
}

// asList writes each value as a list of that one, for a flag that takes a list: it is
// read as a line of a table, where commas and quotes mean something.
func asList(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		var b strings.Builder
		w := csv.NewWriter(&b)
		_ = w.Write([]string{v}) // a string takes all
		w.Flush()
		out[i] = strings.TrimSuffix(b.String(), "\n")
	}
	return out
}
