package e2e

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weft-net/weft/api"
	"github.com/weft-net/weft/internal/netlab"
)

// manyContainers are on the host whose attaches are measured.
const manyContainers = 500

// BenchmarkAttach measures attaches through the socket, one after the other and
// eight at a time, on a host that fills with containers meanwhile, and detaches.
func BenchmarkAttach(b *testing.B) {
	for b.Loop() {
		h := netlab.New(b).Host("h1")
		h.Run("weft", "launch")
		h.Run("bash", "-c", fmt.Sprintf("for i in $(seq %d); do ip netns add c$i || exit 1; done", manyContainers+200))
		pid := h.Run("cat", "/var/lib/weft/lock")
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		client := api.NewClient(h.Path(api.DefaultSocket))
		one := func(i int) time.Duration {
			began := time.Now()
			if _, err := client.Attach(context.Background(), api.AttachRequest{Container: fmt.Sprintf("c%d", i)}); err != nil {
				b.Error(err)
			}
			return time.Since(began)
		}
		report := func(what string, took []time.Duration) {
			slices.Sort(took)
			rss := strings.Join(strings.Fields(h.Run("grep", "VmRSS", "/proc/"+pid+"/status"))[1:], " ")
			b.Logf("%-28s p50 %6.1f ms  p99 %6.1f ms  resident %s", what, ms(took[len(took)/2]), ms(took[len(took)*99/100]), rss)
		}
		var took []time.Duration
		for i := 1; i <= manyContainers; i++ {
			if took = append(took, one(i)); i%100 == 0 {
				report(fmt.Sprintf("%d to %d", i-99, i), took)
				took = nil
			}
		}
		for i := manyContainers + 1; i <= manyContainers+100; i++ {
			time.Sleep(100 * time.Millisecond)
			took = append(took, one(i))
		}
		report("100 more, ten a second", took)
		took = nil
		var mu sync.Mutex
		var wg sync.WaitGroup
		next := make(chan int)
		for range 8 {
			wg.Go(func() {
				for i := range next {
					d := one(i)
					mu.Lock()
					took = append(took, d)
					mu.Unlock()
				}
			})
		}
		for i := manyContainers + 101; i <= manyContainers+200; i++ {
			next <- i
		}
		close(next)
		wg.Wait()
		report("100 more, eight at a time", took)

		took = nil
		for i := manyContainers + 200; i > manyContainers+100; i-- {
			began := time.Now()
			if _, err := client.Detach(context.Background(), api.DetachRequest{Container: fmt.Sprintf("c%d", i)}); err != nil {
				b.Error(err)
			}
			took = append(took, time.Since(began))
		}
		report("100 detached", took)

		time.Sleep(15 * time.Second) // what the attaches set off has ended
		used := func() (ticks int) {
			f := strings.Fields(h.Run("cat", "/proc/"+pid+"/stat"))
			for _, n := range f[13:15] {
				t, err := strconv.Atoi(n)
				if err != nil {
					b.Fatal(err)
				}
				ticks += t
			}
			return ticks
		}
		const idle = 20 // seconds
		before := used()
		time.Sleep(idle * time.Second)
		b.Logf("idle with all of them: %.1f %% of one core", float64(used()-before)/idle) // 100 ticks are a second
	}
}
