package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/weft-net/weft/api"
)

// linkRows fit a screen of 120 columns; why a link is as it is comes below.
func linkRows(s api.Status, wide bool) [][]string {
	rows := [][]string{{"PEER", "ID", "TRANSPORT", "ENCRYPTED", "RTT", "LOSS", "MTU", "RECEIVED", "SENT", "CHANGED", "STATE"}}
	if wide {
		rows[0] = append(rows[0], "UNDERLAY", "HEARD", "DEVICE", "KEY", "SINCE", "TRANSPORTS")
	}
	for _, l := range s.Links {
		rtt, loss, mtu, changed := "-", "-", "-", "-"
		switch {
		case len(l.Via) > 0 && l.ViaRTT > 0:
			rtt = "~" + l.ViaRTT.Round(100*time.Microsecond).String()
		case l.Proven && len(l.Via) == 0:
			rtt, loss = l.RTT.Round(time.Microsecond).String(), fmt.Sprintf("%.0f %%", 100*l.Loss)
		}
		if l.MTU > 0 {
			mtu = strconv.Itoa(l.MTU)
		}
		if !l.Changed.IsZero() {
			changed = ago(time.Since(l.Changed))
		}
		row := []string{l.Name, shortID(l.Peer), linkWay(l), yesNo(l.Encrypted), rtt, loss, mtu, volume(l.Received), volume(l.Sent), changed, linkState(l)}
		if wide {
			underlay, heard, since, key := "-", "-", "-", "-"
			if l.Heard.IsValid() {
				heard = l.Heard.String()
			}
			if l.Underlay.IsValid() {
				underlay = l.Underlay.String()
			}
			if l.KeyEpoch != nil {
				key = strconv.FormatUint(*l.KeyEpoch, 10)
			}
			if !l.Changed.IsZero() {
				since = l.Changed.Local().Format(time.DateTime)
			}
			row = append(row, underlay, heard, cmp.Or(l.Device, "-"), key, since, verdicts(l.Transports))
		}
		rows = append(rows, row)
	}
	return rows
}

// linkWay says how a peer is reached: by a transport, or by others.
func linkWay(l api.Link) string {
	if len(l.Via) == 0 {
		return cmp.Or(l.Transport, "-")
	}
	return "relay via " + peerNames(l.Via)
}

func peerNames(list []api.PeerName) string {
	var names []string
	for _, p := range list {
		names = append(names, cmp.Or(p.Name, p.ID.String()))
	}
	return strings.Join(names, ", ")
}

// linkState says whether a link is usable.
func linkState(l api.Link) string {
	const some = 10 // probes, before which silence says nothing
	switch {
	case l.Reason != "":
		return "no link"
	case len(l.Via) > 0:
		return "relayed"
	case l.Answers:
		return "works"
	case l.Probes >= some:
		return "no answer"
	}
	return "set"
}

// linkNotes say why the links are as they are, and of which that is true.
func linkNotes(s api.Status) []string {
	var order []string
	peers := map[string][]string{}
	for _, l := range s.Links {
		why := ": " + l.Reason
		switch {
		case len(l.Via) > 0:
			why = fmt.Sprintf(" by %s: %s", linkWay(l), l.Broken)
		case l.Reason == "" && l.Why == "":
			continue
		case l.Reason == "":
			by := l.Transport
			if l.TransportIPv6 != "" {
				by += ", IPv6 by " + l.TransportIPv6
			}
			why = fmt.Sprintf(" by %s: %s", by, l.Why)
			if l.Broken != "" {
				why += "; no host is known that could relay, and " + l.Broken
			}
		}
		if peers[why] == nil {
			order = append(order, why)
		}
		peers[why] = append(peers[why], unique(s, l.Peer, l.Name))
	}
	slices.SortStableFunc(order, func(a, b string) int { return len(peers[b]) - len(peers[a]) })
	const shown = 5
	var out []string
	for _, why := range order {
		names := peers[why]
		to := strings.Join(names[:min(shown, len(names))], ", ")
		if more := len(names) - shown; more > 0 {
			to += fmt.Sprintf(" and %d more", more)
		}
		out = append(out, to+why)
	}
	return out
}

// unique is a peer's name, with the beginning of its id where others have that
// name, too.
func unique(s api.Status, id uuid.UUID, name string) string {
	if slices.ContainsFunc(s.Peers, func(p api.Peer) bool { return p.ID != id && p.Name == name && !p.IsOut() }) {
		return fmt.Sprintf("%s (%s)", name, shortID(id))
	}
	return name
}

// volume is a number of bytes in few columns.
func volume(n *int64) string {
	if n == nil {
		return "-"
	}
	if *n < 10000 {
		return fmt.Sprintf("%d B", *n)
	}
	f, units := float64(*n), "BkMGTPE"
	for f >= 1000 && len(units) > 1 {
		f, units = f/1000, units[1:]
	}
	return fmt.Sprintf("%.1f %cB", f, units[0])
}

// ago is a time in few columns.
func ago(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds ago", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	}
	return fmt.Sprintf("%dd ago", d/day)
}

func verdicts(list []api.Verdict) string {
	var out []string
	for _, v := range list {
		may := "no"
		if v.Allowed {
			may = "yes"
		}
		out = append(out, fmt.Sprintf("%s: %s, %s", v.Transport, may, v.Why))
	}
	return strings.Join(out, "; ")
}
