package mesh

import (
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// memberlistWarnings are the lines of memberlist that a user has to hear of,
// since nothing of ours says the same; what they mean stands beside them.
var memberlistWarnings = []struct{ part, meaning string }{
	{"over TCP but UDP probes failed", "a peer is reached over TCP but not over UDP: failures are seen late; let UDP pass to the gossip port"},
	{"Conflicting address", "a peer is said to be at two addresses: it has just moved, or two hosts have the same identity"},
	{"handler queue full", "gossip comes faster than this host can handle it"},
	{"Remote node state size", "the mesh's state is nearly too large to be exchanged"},
}

const (
	memberlogQuiet = 10 * time.Minute // between two warnings of the same line
	memberlogKept  = 256              // bounds the memory of lines
)

// memberlog takes memberlist's own lines as debugging: what matters of them
// weft says in its own words, and once.
type memberlog struct {
	log  *slog.Logger
	mu   sync.Mutex
	said map[string]time.Time
}

func newMemberlog(l *slog.Logger) *log.Logger {
	return log.New(&memberlog{log: l, said: map[string]time.Time{}}, "", 0)
}

// Write takes one line.
func (w *memberlog) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	for _, known := range memberlistWarnings {
		if strings.Contains(line, known.part) && w.isNews(line, time.Now()) {
			w.log.Warn(known.meaning, "memberlist", line)
			return len(b), nil
		}
	}
	w.log.Debug("memberlist", "line", line)
	return len(b), nil
}

func (w *memberlog) isNews(line string, now time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if last, ok := w.said[line]; ok && now.Sub(last) < memberlogQuiet {
		return false
	}
	if len(w.said) >= memberlogKept {
		clear(w.said)
	}
	w.said[line] = now
	return true
}
