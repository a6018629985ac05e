package simnet

import (
	"time"

	"golang.org/x/sys/unix"
)

// realTime is the time outside of the bubble.
func realTime() time.Time {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts) // exists everywhere
	return time.Unix(ts.Sec, ts.Nsec)
}
