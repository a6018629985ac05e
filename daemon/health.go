package daemon

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/bridge"
	"github.com/weft-net/weft/mesh"
)

// condition is one entry of the registry of what can be wrong.
type condition struct {
	code     string
	severity string
	// dependsOn names a condition that explains this one: while it holds, this
	// one is not shown.
	dependsOn string
	fix       string
	// check returns what is wrong, in a sentence, or "".
	check func(d *Daemon) string
}

// probesNotPossible explains what else is said of links then.
const probesNotPossible = "probes-not-possible"

// notePorts is what is noted of tunnels that no link needs.
const notePorts = "ports of tunnels"

// conditions is the registry, in the order in which they are shown.
var conditions = []condition{
	{code: api.WarnLoop, severity: api.SeverityError,
		fix:   "`weft stop` and `weft launch`; traffic goes on meanwhile.",
		check: checkLoop},
	{code: api.WarnKernel, severity: api.SeverityError,
		fix:   "remove what the message names; weft tries again every few seconds",
		check: func(d *Daemon) string { return d.health.of("reconcile") }},
	{code: api.WarnStore, severity: api.SeverityError,
		fix:   "free space on the file system of the state directory, or make it writable",
		check: func(d *Daemon) string { return d.health.of("remember") }},
	{code: "record-not-published", severity: api.SeverityError,
		fix:   "give the host fewer prefixes: attach its containers elsewhere, then detach them here",
		check: func(d *Daemon) string { return d.health.of("publish") }},
	{code: "kernel-not-watched", severity: api.SeverityWarning, dependsOn: "kernel-not-set",
		fix:   "nothing has to be done: changes are found by the periodic pass",
		check: func(d *Daemon) string { return d.health.of("watch-kernel") }},
	{code: api.WarnPlan, severity: api.SeverityError,
		fix:   "free space on the file system of the state directory, or make it writable",
		check: func(d *Daemon) string { return d.health.of("plan") }},
	{code: "was-a-copy", severity: api.SeverityWarning,
		fix:   "nothing has to be done for containers that are new; those that were copied get other addresses when they are detached and attached again (weft ps)",
		check: checkBecame},
	{code: "plan-in-trouble", severity: api.SeverityWarning,
		fix:   "a host whose store was copied or set back begins anew by itself; of two meshes that were founded apart, reset the hosts of one",
		check: checkTrouble},
	{code: "addresses-cut-off", severity: api.SeverityError,
		fix:   "an address whose owner refuses it stays cut off: detach and attach its container (weft ps); others come back by themselves",
		check: checkConflict},
	{code: "blocks-in-quarantine", severity: api.SeverityWarning,
		fix:   "nothing has to be done if it goes away when the removal of a host is complete",
		check: checkQuarantine},
	{code: "removal-pending", severity: api.SeverityWarning,
		fix:   "start the hosts that have not confirmed, or `weft rmpeer` them if they are gone for good",
		check: checkPending},
	{code: "plan-message-refused", severity: api.SeverityWarning,
		fix: "upgrade the older weft of the two",
		check: func(d *Daemon) string {
			return strings.Join(nonEmpty(d.health.of("plan-merge"), d.health.of("plan-receive")), "; ")
		}},
	{code: "detach-not-done", severity: api.SeverityWarning, dependsOn: "kernel-not-set",
		fix:   "remove what the message names; weft tries again every few seconds",
		check: func(d *Daemon) string { return d.health.of("journal") }},
	{code: "cni-not-written", severity: api.SeverityError,
		fix:   "remove what the message names and `weft cni install` again, or `weft cni uninstall`",
		check: func(d *Daemon) string { return d.health.of("cni") }},
	{code: "refused-by-mesh", severity: api.SeverityError,
		fix:   "if the token was changed: `weft stop`, then `weft launch --token` with what `weft token show` prints on a host of the mesh; a host that has left needs `weft reset` before it joins anew",
		check: checkRejections},
	{code: "peer-failed", severity: api.SeverityWarning, dependsOn: "refused-by-mesh",
		fix:   "look at that host: `weft status` there, and whether TCP and UDP on the gossip port pass between the hosts",
		check: checkPeers},
	{code: "host-confined", severity: api.SeverityWarning,
		fix:   "nothing has to be done: it dials out, and other hosts like it are reached by hole punching or a relay; for direct links let in to this host what is named",
		check: checkConfined},
	{code: "underlay-not-read", severity: api.SeverityWarning, dependsOn: api.WarnKernel,
		fix:   "nothing has to be done if it goes away; changes of this host's addresses are not followed meanwhile",
		check: func(d *Daemon) string { return d.health.of("underlay") }},
	{code: probesNotPossible, severity: api.SeverityWarning,
		fix:   "`ss -lnup | grep :6786` shows by whom; end it",
		check: checkProbing},
	{code: "port-taken", severity: api.SeverityWarning,
		fix:   "`ss -lnup` shows by whom: end it; weft tries again every few seconds, and links go by other tunnels, or by the older key of WireGuard, meanwhile",
		check: func(d *Daemon) string { return d.health.of(notePorts) }},
	{code: "no-link", severity: api.SeverityError,
		fix:   "`weft status links` says why",
		check: checkLinks},
	{code: "link-not-proven", severity: api.SeverityWarning, dependsOn: probesNotPossible,
		fix:   "if containers there cannot be reached: let the transport's UDP port pass between the hosts (weft status links -o wide); if they can, the other host's weft is too old to answer, or its firewall drops UDP 6786 inside of the tunnel",
		check: checkProven},
	{code: "link-silent", severity: api.SeverityWarning,
		fix:   "let the transport's UDP port pass between the hosts, both ways (weft status links -o wide says which transports the link may use); it is tried all the time, and comes back by itself",
		check: checkSilent},
	{code: "link-relayed", severity: api.SeverityWarning,
		fix:   "let the UDP port of a transport pass between the two hosts, both ways; it is tried all the time, and taken when it works steadily",
		check: checkRelayed},
	{code: "keys-change-held", severity: api.SeverityWarning,
		fix:   "let the UDP ports of both slots pass between the hosts (`weft status -o json | jq .peers[].keys`), upgrade the hosts that are named as old, start those that do not answer",
		check: checkKeys},
	{code: "slow-link", severity: api.SeverityWarning, dependsOn: probesNotPossible,
		fix:   "let the faster transport pass between the hosts: UDP 6784 for VXLAN, or the mesh's port; direct needs a segment that carries the containers' addresses",
		check: checkSlow},
	{code: "spoofed-packets", severity: api.SeverityWarning,
		fix:   "find the container that sends by an address which is not its own: `tcpdump -e -n -i weft…` on the host's ends (weft ps -o wide)",
		check: checkSpoofed},
	{code: "neighbour-table-full", severity: api.SeverityWarning,
		fix:   "raise what the message names, 1024 by default, to some thousands: `sysctl -w`, and for good in /etc/sysctl.d",
		check: checkNeighbours},
	{code: "slow-transport", severity: api.SeverityWarning,
		fix:   "use a kernel with WireGuard (modprobe wireguard), then `weft stop && weft launch --wireguard kernel`",
		check: checkUserspace},
	{code: "traffic-not-encrypted", severity: api.SeverityWarning,
		fix:   "do this only where the underlay is your own; `weft launch --trusted-subnets none` on either host ends it where the mesh was founded with --encap auto; gossip is encrypted",
		check: checkEncryption},
	{code: "gossip-refused", severity: api.SeverityWarning,
		fix:   "`weft status -o wide` counts what was refused; of another version: upgrade the older weft; else some host that has the token sends what weft does not: see `weft token rotate`",
		check: checkGossip},
	{code: "hosts-refused", severity: api.SeverityWarning,
		fix:   "if they should join: use the token that `weft token show` prints here",
		check: checkRefusals},
}

// health remembers which of the daemon's repeated doings fail at the moment.
type health struct {
	mu      sync.Mutex
	failing map[string]error
	// What the address plan complained of last, and when.
	plan    string
	planAt  time.Time
	tallies map[string]tally // by what is counted
}

// tally is how often something was by the last look, and when that had become more.
type tally struct {
	count uint64
	at    time.Time
}

// tallyShown is how long after it became more a tally is a warning.
const tallyShown = time.Hour

// tally notes a count. The first of what is not known yet is what was before.
func (h *health) tally(what string, n uint64, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	last, known := h.tallies[what]
	if known && n > last.count {
		last.at = now
	}
	last.count = n
	h.tallies[what] = last
}

// tallied is what was noted, and whether it became more a short time ago.
func (h *health) tallied(what string, now time.Time) (t tally, more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.tallies[what]
	return t, !t.at.IsZero() && now.Sub(t.at) <= tallyShown
}

// spoofed is the tally of packets that containers sent by foreign addresses.
const spoofed = "spoofed"

// lookSpoofed reads how many packets containers have sent by foreign addresses.
func (d *Daemon) lookSpoofed() uint64 {
	n := bridge.Spoofed(d.opts.Bridge)
	d.health.tally(spoofed, n, d.now())
	return n
}

func checkSpoofed(d *Daemon) string {
	t, more := d.health.tallied(spoofed, d.now())
	if !more {
		return ""
	}
	return fmt.Sprintf("containers of this host sent by addresses that are not theirs: %d packets, all dropped, the last at about %s",
		t.count, t.at.Format(time.TimeOnly))
}

func (h *health) trouble(text string, at time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.plan, h.planAt = text, at
}

func checkTrouble(d *Daemon) string {
	d.health.mu.Lock()
	defer d.health.mu.Unlock()
	if d.now().Sub(d.health.planAt) > troubleShown {
		return ""
	}
	return d.health.plan
}

// troubleShown is how long what the address plan complained of is a warning.
const troubleShown = time.Hour

func (h *health) of(what string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.failing[what]; err != nil {
		return oneLine(err)
	}
	return ""
}

// note records how a repeated doing went, and logs only what is news.
func (d *Daemon) note(what string, err error) {
	d.health.mu.Lock()
	old := d.health.failing[what]
	if err == nil {
		delete(d.health.failing, what)
	} else {
		d.health.failing[what] = err
	}
	d.health.mu.Unlock()
	switch {
	case err != nil && (old == nil || old.Error() != err.Error()):
		d.log.Error(what, "err", oneLine(err))
	case err == nil && old != nil:
		d.log.Info(what + " works again")
	}
}

// warnings are the conditions that hold.
func (d *Daemon) warnings() []api.Warning {
	out := []api.Warning{}
	holds := map[string]bool{}
	for _, c := range conditions {
		text := c.check(d)
		if text == "" || holds[c.dependsOn] {
			continue
		}
		holds[c.code] = true
		out = append(out, api.Warning{Code: c.code, Severity: c.severity, Text: text, Fix: c.fix})
	}
	return out
}

// loopShown is how long a pass of the loop may take; one takes a moment, and they
// come every few seconds.
const loopShown = time.Minute

func checkLoop(d *Daemon) string {
	if since := d.now().Sub(*d.looked.Load()); since > loopShown {
		return fmt.Sprintf("the daemon has not looked at the kernel for %s", since.Round(time.Second))
	}
	return ""
}

func checkConflict(d *Daemon) string {
	var parts []string
	for _, w := range d.plan.Status().Wanted {
		why := w.Refused
		if why == "" {
			why = "its owner has not answered"
		}
		parts = append(parts, fmt.Sprintf("%s (%s)", w.Addr, why))
	}
	return strings.Join(parts, ", ")
}

func checkPending(d *Daemon) string {
	p := d.plan.Status()
	if len(p.Pending) == 0 {
		return ""
	}
	var gone []string
	for _, x := range p.Pending {
		gone = append(gone, d.nameOf(x.Peer))
	}
	text := "the addresses of " + strings.Join(gone, ", ") + " wait for every host to confirm the removal"
	if len(p.WaitingFor) > 0 {
		text += "; not yet: " + strings.Join(d.names(p.WaitingFor), ", ")
	}
	return text
}

func checkQuarantine(d *Daemon) string {
	if q := d.plan.Status().Quarantined; len(q) > 0 {
		return fmt.Sprintf("%v belong to this host by a gift that had no right to be made", q)
	}
	return ""
}

func checkPeers(d *Daemon) string {
	var names []string
	for _, p := range d.mesh.Peers() {
		if p.State == mesh.StateFailed {
			names = append(names, d.nameOf(p.ID))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "no answer from " + strings.Join(names, ", ") + " (routes are kept: their containers may be reachable still)"
}

func checkConfined(d *Daemon) string {
	r := d.mesh.Reachability()
	if !r.Confined {
		return ""
	}
	why := "something on the way lets nothing in"
	if r.From.IsValid() && !slices.Contains(d.underlays(), r.From) {
		why = fmt.Sprintf("it is behind NAT, and seen from %s", r.From)
	}
	return fmt.Sprintf("other hosts cannot connect to this one: %s; it would hear them on TCP and UDP %d, and by WireGuard on UDP %d and %d", why,
		d.opts.Port, d.settings.slotPort(0, d.opts.Port), d.settings.slotPort(1, d.opts.Port))
}

func checkLinks(d *Daemon) string {
	var names []string
	for _, l := range d.links() {
		if l.Reason != "" {
			names = append(names, d.nameOf(l.Peer)+" ("+l.Reason+")")
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "no way to the containers of " + strings.Join(names, ", ")
}

func checkUserspace(d *Daemon) string {
	if !d.tunnel.Load().userspace {
		return ""
	}
	const slow = "packets to other hosts pass through a process, at a fraction of the speed"
	if d.opts.WireGuard == WireGuardUserspace {
		return "as --wireguard userspace has it, " + slow
	}
	return "the kernel had no WireGuard when this began: " + slow
}

// checkEncryption names the links that carry plaintext.
func checkEncryption(d *Daemon) string {
	var names []string
	links := d.links()
	for _, l := range links {
		if l.Reason == "" && !l.Encrypted {
			names = append(names, fmt.Sprintf("%s (%s)", d.nameOf(l.Peer), l.Transport))
		}
	}
	switch {
	case len(names) > 0:
		return "CONTAINER TRAFFIC IS NOT ENCRYPTED TO " + strings.Join(names, ", ")
	case len(links) == 0 && !d.settings.mode().Encrypts():
		return "CONTAINER TRAFFIC TO OTHER HOSTS WILL NOT BE ENCRYPTED: the mesh was founded with --encap " + d.settings.Encap
	}
	return ""
}

// slowShown is how long a link may use a slower transport than it could, as it
// does while a faster one is being proved, before that is a warning.
const slowShown = 15 * time.Second

func checkSlow(d *Daemon) string {
	var names []string
	for _, l := range d.tunnel.Load().links {
		if l.detour == nil && !l.slower.IsZero() && d.now().Sub(l.slower) > slowShown {
			names = append(names, fmt.Sprintf("%s by %s (%s)", d.nameOf(l.Peer), l.choice.Transport, l.choice.Why))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return "a faster transport is allowed, but not in use, to " + strings.Join(names, ", ")
}

// unproven is how many probes may go without any answer before that is a warning.
const unproven = 10

func checkProven(d *Daemon) string {
	silent := d.silent(func(l api.Link) bool { return !l.Proven })
	if silent == "" {
		return ""
	}
	return "no probe was ever answered on the link to " + silent
}

func checkSilent(d *Daemon) string {
	silent := d.silent(func(l api.Link) bool { return l.Proven })
	if silent == "" {
		return ""
	}
	return "no probe is answered any more, by any transport that is allowed, on the link to " + silent
}

// silent names the links of which that is true among those that do not answer
// though the other end's daemon does: where that is stopped, traffic goes on.
func (d *Daemon) silent(is func(api.Link) bool) string {
	failed := map[uuid.UUID]bool{}
	for _, p := range d.mesh.Peers() {
		failed[p.ID] = p.State != mesh.StateAlive
	}
	var names []string
	for _, l := range d.links() {
		if l.Reason == "" && len(l.Via) == 0 && !l.Answers && l.Probes >= unproven && is(l) && !failed[l.Peer] {
			names = append(names, fmt.Sprintf("%s by %s", d.nameOf(l.Peer), l.Transport))
		}
	}
	return strings.Join(names, ", ")
}

// checkGossip tells of records and messages that no weft of this mesh's would send.
func checkGossip(d *Daemon) string {
	c := d.mesh.Counters()
	if c.LastRefused.IsZero() || d.now().Sub(c.LastRefused) > refusalShown {
		return ""
	}
	var parts []string
	for what, counts := range map[string]map[string]uint64{"records": c.RecordsRefused, "messages": c.MessagesRefused} {
		for reason, n := range counts {
			if reason != mesh.Outdated && reason != mesh.Untimely {
				parts = append(parts, fmt.Sprintf("%d %s (%s)", n, what, reason))
			}
		}
	}
	slices.Sort(parts)
	return "gossip was refused, the last at " + c.LastRefused.Format(time.TimeOnly) + ": " + strings.Join(parts, ", ")
}

// refusalShown is how long a refusal is a warning.
const refusalShown = time.Hour

func checkRefusals(d *Daemon) string {
	var who []string
	for _, r := range d.mesh.Refusals() {
		if d.now().Sub(r.Last) > refusalShown {
			continue
		}
		who = append(who, fmt.Sprintf("%s (%s, %d times)", r.Addr, r.Code, r.Count))
	}
	if len(who) == 0 {
		return ""
	}
	slices.Sort(who)
	return "refused entry to " + strings.Join(who, ", ")
}

func nonEmpty(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
