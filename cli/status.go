package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/weft-net/weft/api"
)

// views are the parts of a status that can be asked for alone.
var views = map[string]struct {
	data  func(api.Status) any
	rows  func(api.Status, bool) [][]string
	notes func(api.Status) []string // below the rows; nil for none
}{
	"peers":   {func(s api.Status) any { return s.Peers }, peerRows, nil},
	"ipam":    {func(s api.Status) any { return s.IPAM }, ipamRows, func(s api.Status) []string { return ipamNotes(s.IPAM) }},
	"links":   {func(s api.Status) any { return s.Links }, linkRows, linkNotes},
	"targets": {func(s api.Status) any { return s.Targets }, targetRows, nil},
}

// screenPeers is how many peers fit the screen together with the rest.
const screenPeers = 10

func (a *app) status() *cobra.Command {
	names := []string{"peers", "ipam", "links", "targets"}
	var ready, live, here bool
	var graph string
	cmd := a.withOutput(&cobra.Command{
		Use:   "status [peers|ipam|links|targets]",
		Short: "Show how this host and its mesh are, and what to do about what is wrong",
		Long: `Show how this host and its mesh are: on one screen, or one part of it.

What is wrong is shown with its code and a fix. The exit code is 4 if something
does not work.

--ready asks only whether containers can be attached on this host, and --live
whether the daemon works: for probes and scripts. What is wrong with other hosts
or on the way to them does not count. While one container's daemon replaces
another's, --ready --here asks for that of this container.

--graph draws the peers and the links between them as this host sees them, for
graphviz or mermaid.`,
		Example: `  weft status
  weft status peers -o wide
  weft status ipam
  weft status -o json | jq .health
  weft status --graph | dot -Tsvg > mesh.svg
  weft status --ready   # exit code 0 if so, 4 if not, 3 without a daemon`,
		Args:      arguments(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			if ready && live || (ready || live) && len(args) > 0 {
				return usage("--ready and --live are each a question of their own")
			}
			if here && !ready {
				return usage("--here goes with --ready")
			}
			if graph != "" && (ready || live || len(args) > 0 || a.output == "json") {
				return usage("--graph draws all of the mesh, and nothing else")
			}
			ctx, cancel := a.request()
			defer cancel()
			s, err := a.client().Status(ctx)
			if err != nil {
				return err
			}
			switch {
			case here:
				return a.readyHere(ctx, s)
			case ready:
				return a.probe("ready", s.Unready())
			case live:
				return a.probe("alive", s.Dead())
			case graph != "":
				fmt.Fprint(a.Stdout, graphs[graph](s))
				return nil
			case len(args) == 1:
				err = a.printView(s, args[0])
			default:
				err = a.printStatus(s)
			}
			if err == nil && s.Degraded() {
				err = errDegraded
			}
			return err
		},
	}, []string{"table", "wide", "json"})
	cmd.Flags().BoolVar(&ready, "ready", false, "only: can containers be attached here?")
	cmd.Flags().BoolVar(&here, "here", false, "with --ready: by the daemon of this container?")
	cmd.Flags().BoolVar(&live, "live", false, "only: does the daemon work?")
	cmd.Flags().Var(&choice{&graph, []string{graphDot, graphMermaid}}, "graph", "draw the mesh: `dot` or mermaid")
	cmd.Flags().Lookup("graph").NoOptDefVal = graphDot
	return cmd
}

// readyHere answers whether containers can be attached by the daemon of this container.
func (a *app) readyHere(ctx context.Context, s api.Status) error {
	against := s.Unready()
	here, err := a.client().Here(ctx)
	if err != nil {
		return err
	}
	if !here {
		against = append(against, api.Warning{Code: "daemon-elsewhere", Severity: api.SeverityError, Text: "the daemon that answers is in another container",
			Fix: "nothing has to be done while a newer one takes its place"})
	}
	return a.probe("ready", against)
}

// probe answers one question: yes, or what is against it.
func (a *app) probe(yes string, against []api.Warning) error {
	if a.output == "json" {
		if err := a.json(against); err != nil {
			return err
		}
	} else if len(against) == 0 {
		fmt.Fprintln(a.Stdout, yes)
	}
	if len(against) == 0 {
		return nil
	}
	for _, w := range against {
		a.say("not %s: %s: %s; fix: %s", yes, w.Code, w.Text, w.Fix)
	}
	return errDegraded
}

func (a *app) printView(s api.Status, name string) error {
	v := views[name]
	if a.output == "json" {
		return a.json(v.data(s))
	}
	if err := a.table(v.rows(s, a.output == "wide")); err != nil || v.notes == nil {
		return err
	}
	for _, line := range v.notes(s) {
		fmt.Fprintln(a.Stdout, line)
	}
	return nil
}

func (a *app) printStatus(s api.Status) error {
	if a.output == "json" {
		return a.json(s)
	}
	alive := 0
	for _, p := range s.Peers {
		if p.State == "alive" {
			alive++
		}
	}
	exposed := ""
	if len(s.Exposed) > 0 {
		exposed = ", exposed by " + join(s.Exposed)
	}
	rows := [][]string{
		{"host", fmt.Sprintf("%s (%s), weft %s, up %s", s.Self.Name, s.Self.ID, s.Version.Software, time.Since(s.Started).Round(time.Second))},
		{"mesh", fmt.Sprintf("%s, gossip %s, traffic %s by %s", s.Mesh.ID, encrypted(s.Mesh.GossipEncrypted), encrypted(s.Mesh.TrafficEncrypted), transport(s))},
		{"peers", fmt.Sprintf("%d known, %d alive", len(s.Peers), alive)},
		{"addresses", fmt.Sprintf("range %s, this host has %s: %d used, %d free", s.IPAM.Range, join(s.Self.Prefixes), s.IPAM.Used, s.IPAM.Free)},
		{"IPv6", ipv6(s)},
		{"bridge", fmt.Sprintf("%s, gateway %s, MTU %d%s", s.Bridge.Name, s.Bridge.Gateway, s.Bridge.MTU, exposed)},
		{"containers", fmt.Sprintf("%d attached, %d gone", s.Attach.Attached, s.Attach.Gone)},
	}
	if k := s.Mesh.Keys; k != nil && (k.Changing || a.output == "wide") {
		rows = append(rows, []string{"keys", keysLine(*k)})
	}
	if a.output == "wide" {
		rows = append(rows, []string{"gossip", gossipLine(s)})
		for _, p := range s.Mesh.Processes {
			rows = append(rows, []string{"process", carriedBy(p)})
		}
	}
	if err := a.table(rows); err != nil {
		return err
	}
	fmt.Fprintln(a.Stdout)
	rows = peerRows(s, a.output == "wide")
	more := max(0, len(rows)-1-screenPeers)
	if err := a.table(rows[:len(rows)-more]); err != nil {
		return err
	}
	if more > 0 {
		fmt.Fprintf(a.Stdout, "and %d more: `weft status peers`\n", more)
	}
	if len(s.Health) == 0 {
		fmt.Fprintln(a.Stdout, "\nhealth: all is well")
		return nil
	}
	fmt.Fprintln(a.Stdout, "\nhealth:")
	for _, w := range s.Health {
		fmt.Fprintf(a.Stdout, "  %s %s: %s\n    fix: %s\n", w.Severity, w.Code, w.Text, w.Fix)
	}
	return nil
}

// carriedBy says which process carries the packets of a device.
func carriedBy(p api.Process) string {
	if p.PID == 0 {
		return "one of another container carries the packets of " + p.Device
	}
	return fmt.Sprintf("%d carries the packets of %s, weft %s", p.PID, p.Device, cmp.Or(p.Software, "of an older version"))
}

// gossipLine counts what was refused and lost.
func gossipLine(s api.Status) string {
	line := fmt.Sprintf("protocol %d", s.Version.Protocol)
	for _, c := range []struct {
		what string
		n    map[string]uint64
	}{{"records", s.Gossip.RecordsRefused}, {"messages", s.Gossip.MessagesRefused}} {
		var parts []string
		for _, reason := range slices.Sorted(maps.Keys(c.n)) {
			parts = append(parts, fmt.Sprintf("%d %s", c.n[reason], reason))
		}
		line += fmt.Sprintf(", %s refused: %s", c.what, cmp.Or(strings.Join(parts, " "), "none"))
	}
	return line + fmt.Sprintf("; %d dropped, %d unsent", s.Gossip.Dropped, s.Gossip.Unsent)
}

// keysLine says how far this host is with the keys of WireGuard.
func keysLine(k api.Keys) string {
	line := fmt.Sprintf("epoch %d since %s", k.Epoch, k.Since.Local().Format(time.DateTime))
	if !k.Changing {
		return line
	}
	return line + ", the ones before go when no host needs them: " + cmp.Or(strings.Join(k.WaitingFor, ", "), "in a moment")
}

// shortID is the part of a peer's id that is shown, and enough to name it by.
func shortID(id uuid.UUID) string { return id.String()[:8] }

func peerRows(s api.Status, wide bool) [][]string {
	rows := [][]string{{"PEER", "ID", "STATE", "UNDERLAY", "GOSSIP", "GATEWAY", "PREFIXES"}}
	if wide {
		rows[0] = append(rows[0], "SEEN", "WHOLE ID", "RECORD", "SOFTWARE", "SINCE", "NO LINK TO")
	}
	for _, p := range s.Peers {
		name := p.Name
		if p.Self {
			name += " (this host)"
		}
		gateway := "-"
		if p.Gateway.IsValid() {
			gateway = p.Gateway.String()
		}
		underlay := join(p.Underlay)
		if p.Confined {
			underlay += " (confined)"
		}
		row := []string{name, shortID(p.ID), p.State, underlay, cmp.Or(p.Way, "-"), gateway, join(p.Prefixes)}
		if wide {
			since := "-"
			if !p.Since.IsZero() {
				since = p.Since.Local().Format(time.DateTime)
			}
			row = append(row, join(p.Seen), p.ID.String(), strconv.FormatUint(p.Version, 10), p.Software, since, cmp.Or(peerNames(slices.Concat(p.Broken, p.Mute)), "-"))
		}
		rows = append(rows, row)
	}
	return rows
}

func ipamRows(s api.Status, _ bool) [][]string {
	rows := [][]string{{"PEER", "ID", "BLOCKS", "PART", "USED", "ROLE", "PREFIXES"}}
	part := func(n int) string { return fmt.Sprintf("%.1f %%", 100*float64(n)/float64(s.IPAM.Blocks)) }
	for _, sh := range s.IPAM.Shares {
		name, used, role := sh.Name, "-", "member"
		if sh.ID == s.Self.ID {
			name += " (this host)"
		}
		if sh.Used != nil {
			used = fmt.Sprintf("%d of %d", *sh.Used, sh.Addresses)
		}
		switch {
		case sh.Removed:
			role = "removed"
		case sh.Voter && sh.ID == s.IPAM.LeaderID:
			role = "voter, leads"
		case sh.Voter:
			role = "voter"
		}
		rows = append(rows, []string{name, shortID(sh.ID), strconv.Itoa(sh.Blocks), part(sh.Blocks), used, role, join(sh.Prefixes)})
	}
	if s.IPAM.Unowned > 0 {
		rows = append(rows, []string{"nobody", "-", strconv.Itoa(s.IPAM.Unowned), part(s.IPAM.Unowned), "-", "-", "-"})
	}
	return append(rows, []string{"all", "-", strconv.Itoa(s.IPAM.Blocks), "100.0 %", "-", "-", fmt.Sprintf("%s in blocks of /%d", s.IPAM.Range, s.IPAM.BlockBits)})
}

// ipamNotes are what the table of shares does not show.
func ipamNotes(s api.IPAM) []string {
	out := []string{fmt.Sprintf("voters: %s; decision %d", strings.Join(s.Voters, ", "), s.Decision)}
	if s.Decision == 0 {
		out = []string{"nobody has founded the address plan yet, or nobody who knows it has answered"}
	} else if !s.Member {
		out = append(out, "this host is no member: it takes address space when a container needs it, or is still joining")
	}
	if s.Forced > 0 {
		out = append(out, fmt.Sprintf("the mesh went on without a majority %d times", s.Forced))
	}
	if len(s.Pending) > 0 {
		waits := "the leading voter knows for whom"
		if len(s.WaitingFor) > 0 {
			waits = "for " + strings.Join(s.WaitingFor, ", ")
		}
		out = append(out, fmt.Sprintf("removed, and not inherited yet: %s (waiting: %s)", strings.Join(s.Pending, ", "), waits))
	}
	if s.LeasesIn+s.LeasesOut > 0 {
		out = append(out, fmt.Sprintf("single addresses: %d of other hosts in use here, %d of this host's in use elsewhere", s.LeasesIn, s.LeasesOut))
	}
	if len(s.Quarantined) > 0 {
		out = append(out, "in quarantine: "+join(s.Quarantined))
	}
	if len(s.Subnets) > 0 {
		out = append(out, "subnets, which do not reach each other: "+join(s.Subnets))
	}
	for _, c := range s.CutOff {
		out = append(out, fmt.Sprintf("cut off: %s of %s: %s", c.Address, c.Owner, cmp.Or(c.Reason, "its owner has not answered")))
	}
	return out
}

func targetRows(s api.Status, _ bool) [][]string {
	rows := [][]string{{"TARGET", "PEER", "ADDRESSES", "NEXT TRY", "STATE"}}
	for _, t := range s.Targets {
		state, next := "connected", "-"
		peers := []string{}
		for _, p := range t.Peers {
			peers = append(peers, fmt.Sprintf("%s %s", p.Name, shortID(p.ID)))
		}
		const shown = 3
		addrs := strings.Join(t.Addresses[:min(shown, len(t.Addresses))], ",")
		if more := len(t.Addresses) - shown; more > 0 {
			addrs += fmt.Sprintf(" and %d more", more)
		}
		if !t.Connected {
			state = "not connected"
			if !t.NextTry.IsZero() {
				next = t.NextTry.Local().Format(time.TimeOnly)
			}
			if t.LastError != "" {
				state = strings.ReplaceAll(t.LastError, "\n", " ")
			}
		}
		rows = append(rows, []string{t.Target, cmp.Or(strings.Join(peers, ", "), "-"), cmp.Or(addrs, "-"), next, state})
	}
	return rows
}

// transport says what carries the traffic, and that it is the slow way of it:
// where that is each link's own, what encrypts all, or what does not.
func transport(s api.Status) string {
	const auto, encrypts = "auto", "wireguard"
	by := s.Mesh.Encap
	switch {
	case by == auto && s.Mesh.TrafficEncrypted:
		by = encrypts
	case by == auto:
		var clear []string
		for _, l := range s.Links {
			if l.Reason == "" && !l.Encrypted {
				clear = append(clear, l.Transport)
			}
		}
		slices.Sort(clear)
		by = strings.Join(slices.Compact(clear), ", ")
	}
	if s.Mesh.Userspace {
		by += " (userspace)"
	}
	return by
}

// ipv6 says which addresses go with the IPv4 ones, or why there are none.
func ipv6(s api.Status) string {
	if s.Bridge.IPv6Off != "" {
		return "off: " + s.Bridge.IPv6Off
	}
	return fmt.Sprintf("range %s, gateway %s", s.IPAM.IPv6, s.Bridge.IPv6)
}

func encrypted(b bool) string {
	if b {
		return "encrypted"
	}
	return "NOT ENCRYPTED"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
