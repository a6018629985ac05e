package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// drain is what a queue sends in one packet after the other.
func drain(next func(overhead, limit int) [][]byte) []string {
	var out []string
	for msgs := next(3, 100); len(msgs) > 0; msgs = next(3, 100) {
		for _, m := range msgs {
			out = append(out, string(m))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func TestQueueSendsTheLatestOfEachPeerAndEveryDelta(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		q := newQueue(func() int { return 2 }, 4)
		latest := map[string]string{}
		var want []string
		for i, peer := range rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", ""}), 1, 20).Draw(rt, "news") {
			msg := fmt.Sprintf("%s%02d", cmp.Or(peer, "d"), i) // all of one length
			if peer == "" {
				q.QueueBroadcast(deltaBroadcast(msg))
				want = append(want, msg)
			} else {
				q.QueueBroadcast(&recordBroadcast{peer, []byte(msg)})
				latest[peer] = msg
			}
		}
		for _, msg := range latest {
			want = append(want, msg)
		}
		slices.Sort(want)
		if got := drain(q.GetBroadcasts); !slices.Equal(got, want) {
			rt.Fatalf("sent %s; want %s", strings.Join(got, " "), strings.Join(want, " "))
		}
	})
}
