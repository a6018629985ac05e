package e2e

import (
	"context"
	"fmt"
	"slices"
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
// eight at a time, on a host that fills with containers meanwhile.
func BenchmarkAttach(b *testing.B) {
	for b.Loop() {
		h := netlab.New(b).Host("h1")
		h.Run("weft", "launch")
		h.Run("bash", "-c", fmt.Sprintf("for i in $(seq %d); do ip netns add c$i || exit 1; done", manyContainers+200))
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
			pid := h.Run("cat", "/var/lib/weft/lock")
			rss := strings.Join(strings.Fields(h.Run("grep", "VmRSS", "/proc/"+pid+"/status"))[1:], " ")
			cpu := strings.Fields(h.Run("cat", "/proc/"+pid+"/stat"))
			b.Logf("%-36s p50 %8s  p99 %8s  most %8s  resident %s, ticks %s+%s", what, took[len(took)/2].Round(10*time.Microsecond),
				took[len(took)*99/100].Round(10*time.Microsecond), took[len(took)-1].Round(10*time.Microsecond), rss, cpu[13], cpu[14])
		}
		var took []time.Duration
		for i := 1; i <= manyContainers; i++ {
			if took = append(took, one(i)); i%100 == 0 {
				report(fmt.Sprintf("%d to %d, one after the other", i-99, i), took)
				took = nil
			}
		}
		for i := manyContainers + 1; i <= manyContainers+100; i++ {
			time.Sleep(100 * time.Millisecond)
			took = append(took, one(i))
		}
		report(fmt.Sprintf("%d to %d, ten a second", manyContainers+1, manyContainers+100), took)
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
		time.Sleep(10 * time.Second)
		report("ten seconds later", took)
	}
}
