package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	var ready, live bool
	cmd := a.withOutput(&cobra.Command{
		Use:   "status [peers|ipam|links|targets]",
		Short: "Show how this host and its mesh are, and what to do about what is wrong",
		Long: `Show how this host and its mesh are: on one screen, or one part of it.

What is wrong is shown with its code and a fix. The exit code is 4 if something
does not work.

--ready asks only whether containers can be attached on this host, and --live
whether the daemon works: for probes and scripts. What is wrong with other hosts
or on the way to them does not count.`,
		Example: `  weft status
  weft status peers -o wide
  weft status ipam
  weft status -o json | jq .health
  weft status --ready   # exit code 0 if so, 4 if not, 3 without a daemon`,
		Args:      arguments(cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs)),
		ValidArgs: names,
		RunE: func(_ *cobra.Command, args []string) error {
			if ready && live || (ready || live) && len(args) > 0 {
				return usage("--ready and --live are each a question of their own")
			}
			ctx, cancel := a.request()
			defer cancel()
			s, err := a.client().Status(ctx)
			if err != nil {
				return err
			}
			switch {
			case ready:
				return a.probe("ready", s.Unready())
			case live:
				return a.probe("alive", s.Dead())
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
	cmd.Flags().BoolVar(&live, "live", false, "only: does the daemon work?")
	return cmd
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
		{"mesh", fmt.Sprintf("%s, gossip %s, traffic %s by %s", s.Mesh.ID, encrypted(s.Mesh.GossipEncrypted), encrypted(s.Mesh.TrafficEncrypted), transport(s.Mesh))},
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
		for _, p := range s.Mesh.Processes {
			rows = append(rows, []string{"process", fmt.Sprintf("%d carries the packets of %s, weft %s", p.PID, p.Device, cmp.Or(p.Software, "of an older version"))})
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

// keysLine says how far this host is with the keys of WireGuard.
func keysLine(k api.Keys) string {
	line := fmt.Sprintf("epoch %d since %s", k.Epoch, k.Since.Local().Format(time.DateTime))
	if !k.Changing {
		return line
	}
	return line + ", the ones before go when no host needs them: " + cmp.Or(strings.Join(k.WaitingFor, ", "), "in a moment")
}

func peerRows(s api.Status, wide bool) [][]string {
	rows := [][]string{{"PEER", "STATE", "UNDERLAY", "GATEWAY", "PREFIXES"}}
	if wide {
		rows[0] = append(rows[0], "ID", "RECORD", "SOFTWARE", "SINCE", "NO LINK TO")
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
		row := []string{name, p.State, join(p.Underlay), gateway, join(p.Prefixes)}
		if wide {
			since := "-"
			if !p.Since.IsZero() {
				since = p.Since.Local().Format(time.DateTime)
			}
			row = append(row, p.ID.String(), strconv.FormatUint(p.Version, 10), p.Software, since, cmp.Or(peerNames(slices.Concat(p.Broken, p.Mute)), "-"))
		}
		rows = append(rows, row)
	}
	return rows
}

func ipamRows(s api.Status, _ bool) [][]string {
	rows := [][]string{{"PEER", "BLOCKS", "PART", "USED", "ROLE", "PREFIXES"}}
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
		case sh.Voter && sh.Name == s.IPAM.Leader:
			role = "voter, leads"
		case sh.Voter:
			role = "voter"
		}
		rows = append(rows, []string{name, strconv.Itoa(sh.Blocks), part(sh.Blocks), used, role, join(sh.Prefixes)})
	}
	if s.IPAM.Unowned > 0 {
		rows = append(rows, []string{"nobody", strconv.Itoa(s.IPAM.Unowned), part(s.IPAM.Unowned), "-", "-", "-"})
	}
	return append(rows, []string{"all", strconv.Itoa(s.IPAM.Blocks), "100.0 %", "-", "-", fmt.Sprintf("%s in blocks of /%d", s.IPAM.Range, s.IPAM.BlockBits)})
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
	rows := [][]string{{"TARGET", "STATE", "NEXT TRY"}}
	for _, t := range s.Targets {
		state, next := "connected", "-"
		if !t.Connected {
			state, next = "not connected", t.NextTry.Local().Format(time.TimeOnly)
			if t.LastError != "" {
				state = strings.ReplaceAll(t.LastError, "\n", " ")
			}
		}
		rows = append(rows, []string{t.Target, state, next})
	}
	return rows
}

// transport says what carries the traffic, and that it is the slow way of it.
func transport(m api.Mesh) string {
	if m.Userspace {
		return m.Encap + " (userspace)"
	}
	return m.Encap
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
