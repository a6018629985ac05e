package probe

import "time"

// answersPerSecond bounds what one device's asks can make this host send. A
// thousand peers that all wonder about this host at once stay below.
const answersPerSecond = 5000

// limiter is a bucket that holds what may be sent within a second.
type limiter struct {
	left   float64
	filled time.Duration
}

func newLimiter(now time.Duration) limiter { return limiter{answersPerSecond, now} }

// allows takes one out of the bucket, if there is one.
func (l *limiter) allows(now time.Duration) bool {
	l.left = min(answersPerSecond, l.left+(now-l.filled).Seconds()*answersPerSecond)
	l.filled = now
	if l.left < 1 {
		return false
	}
	l.left--
	return true
}
