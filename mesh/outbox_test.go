package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/hashicorp/memberlist"
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

func TestManyRecordsAtOnceArePassedOnOnlyWhereNobodySaysThatTheyAreNew(t *testing.T) {
	for name, tc := range map[string]struct {
		news, down, want int
	}{
		"few":                          {fewNews, 0, fewNews},
		"many of peers that are up":    {fewNews + 1, 0, 0},
		"many, of which some are down": {fewNews + 1, 3, 3},
	} {
		m := bare(t)
		m.cfg.Token.MeshID = meshA
		m.queue = newQueue(m.audience, 4)
		m.members[newIdentity(t).ID] = &member{}
		state := message{Protocol: ProtocolVersion, Kind: kindState}
		for i := range tc.news {
			r := sign(t, newIdentity(t), 1, Body{Protocol: ProtocolVersion})
			if state.Records = append(state.Records, r.signed); i >= tc.down {
				m.members[r.ID] = &member{}
			}
		}
		empty := m.queue.NumQueued()
		if err := m.receive(encode(state)); err != nil {
			t.Fatal(err)
		}
		if got := m.queue.NumQueued() - empty; got != tc.want || len(m.records) != tc.news {
			t.Errorf("%s: %d of %d are passed on; want %d", name, got, len(m.records), tc.want)
		}
	}
}

func TestGossipMissesHardlyAnybodyAndOneAtMostWhileThereIsMuch(t *testing.T) {
	// Up to headStart others are told directly.
	for _, n := range []int{headStart + 2, 20, 99, 100, 999, 1000, 3000} {
		// How often the piece of news is passed on that is passed on least, of so many.
		least := func(news int) int {
			m := bare(t)
			for range n - 1 {
				m.members[uuid.New()] = &member{}
			}
			m.queue = newQueue(m.audience, memberlist.DefaultLANConfig().RetransmitMult)
			for i := range news {
				m.queue.QueueBroadcast(deltaBroadcast(fmt.Sprint(i)))
			}
			sent := map[string]int{}
			for msgs := (*delegate)(m).GetBroadcasts(0, maxPacket); len(msgs) > 0; msgs = (*delegate)(m).GetBroadcasts(0, maxPacket) {
				for _, msg := range msgs {
					sent[string(msg)]++
				}
			}
			return slices.Min(slices.Collect(maps.Values(sent)))
		}
		// Each of n peers tells so many others, drawn by chance.
		missed := func(sent int) float64 { return float64(n) * math.Exp(-float64(sent)) }
		one, many := least(1), least(4*muchNews)
		if missed(one) > 0.001 || missed(many) > 1.1 || many >= one {
			t.Errorf("of %d peers, each of which passes a piece of news on %d times, and one of many %d times, %.4f miss it, and %.4f", n, one, many, missed(one), missed(many))
		}
	}
}
