package daemon

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// The kernel has one table of neighbours for each family of addresses, for the whole
// machine: hosts on the same segment, and containers on every bridge. When it is full
// packets to whom it does not hold are dropped, and nobody is told but the kernel's log.

// neighbours is a table of neighbours.
type neighbours struct {
	family, stat, limit string
}

var neighbourTables = []neighbours{
	{"IPv4", "/proc/net/stat/arp_cache", "net.ipv4.neigh.default.gc_thresh3"},
	{"IPv6", "/proc/net/stat/ndisc_cache", "net.ipv6.neigh.default.gc_thresh3"},
}

// overflows is how often the table was full since the machine's start, by what the
// kernel says of it: a line of names, and a line of hexadecimal numbers for each
// processor.
func overflows(stat string) (n uint64, err error) {
	column := -1
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		if column < 0 {
			for i, name := range fields {
				if name == "table_fulls" {
					column = i
				}
			}
			if column < 0 {
				return 0, fmt.Errorf("statistics of neighbours: no column table_fulls in %q", line)
			}
			continue
		}
		if column >= len(fields) {
			return 0, fmt.Errorf("statistics of neighbours: a line of %d columns", len(fields))
		}
		of, err := strconv.ParseUint(fields[column], 16, 64)
		if err != nil {
			return 0, fmt.Errorf("statistics of neighbours: %w", err)
		}
		n += of
	}
	if column < 0 {
		return 0, errors.New("statistics of neighbours: nothing is there")
	}
	return n, nil
}

// lookNeighbours looks whether a table of neighbours was full since the last look. In a
// network namespace of its own a daemon is not told.
func (d *Daemon) lookNeighbours() {
	for _, table := range neighbourTables {
		stat, err := os.ReadFile(table.stat)
		if err != nil {
			continue
		}
		n, err := overflows(string(stat))
		if d.note("read "+table.stat, err); err == nil {
			d.health.tally("full table of "+table.family, n, d.now())
		}
	}
}

func checkNeighbours(d *Daemon) string {
	var parts []string
	for _, table := range neighbourTables {
		if t, more := d.health.tallied("full table of "+table.family, d.now()); more {
			parts = append(parts, fmt.Sprintf("%s (%s), the last time at about %s", table.family, table.limit, t.at.Format(time.TimeOnly)))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "the kernel's table of neighbours was full, and packets to containers or hosts that it did not hold were dropped: " + strings.Join(parts, "; ")
}
