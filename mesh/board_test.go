package mesh

import (
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/weft-net/weft/internal/simnet"
)

// host is one place in a simulated network; a Mesh uses it as its transport.
type host = simnet.Host

func newNetwork(t *testing.T, n int) *simnet.Network { return simnet.New(t, n) }

// board is a Channel: a set of words that only grows.
type board struct {
	mu       sync.Mutex
	words    map[string]bool
	received []string
}

func (b *board) Name() string { return "board" }

func (b *board) State() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []string
	for w := range b.words {
		all = append(all, w)
	}
	return []byte(strings.Join(all, "\n"))
}

func (b *board) Merge(state []byte) []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	var news []string
	for w := range strings.SplitSeq(string(state), "\n") {
		if w != "" && !b.words[w] {
			b.words[w] = true
			news = append(news, w)
		}
	}
	if news == nil {
		return nil
	}
	return []byte(strings.Join(news, "\n"))
}

func (b *board) Receive(from uuid.UUID, msg []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = append(b.received, from.String()+" "+string(msg))
}

func (b *board) has(w string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.words[w]
}

func (b *board) messages() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.received...)
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
