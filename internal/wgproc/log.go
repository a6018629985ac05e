package wgproc

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.zx2c4.com/wireguard/device"
)

// Bounds of what is logged: a line is not repeated within repeatAfter, and at
// most maxLines different ones are remembered.
const (
	repeatAfter = time.Hour
	maxLines    = 1000
)

// quiet is a logger for WireGuard, which says the same of each peer that does
// not answer every five seconds.
func quiet(log *slog.Logger) *device.Logger {
	var mu sync.Mutex
	said := map[string]time.Time{}
	return &device.Logger{Verbosef: device.DiscardLogf, Errorf: func(format string, args ...any) {
		line := fmt.Sprintf(format, args...)
		mu.Lock()
		defer mu.Unlock()
		if time.Since(said[line]) < repeatAfter {
			return
		}
		if len(said) >= maxLines {
			clear(said)
		}
		said[line] = time.Now()
		log.Error(line)
	}}
}
