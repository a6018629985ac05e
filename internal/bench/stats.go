package bench

import (
	"math"
	"slices"
)

// median of a list; not a number if it is empty.
func median(list []float64) float64 {
	if len(list) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(list))
	if n := len(s); n%2 == 0 {
		return (s[n/2-1] + s[n/2]) / 2
	}
	return s[len(s)/2]
}

// ratio is a quantity as a multiple of another.
type ratio struct{ median, least, most float64 }

// ratios compares two series round by round: on a machine that others use, what
// was measured in one minute has little to do with the next.
func ratios(of, to []float64) ratio {
	var list []float64
	for i := range min(len(of), len(to)) {
		list = append(list, of[i]/to[i])
	}
	if len(list) == 0 {
		return ratio{math.NaN(), math.NaN(), math.NaN()}
	}
	return ratio{median(list), slices.Min(list), slices.Max(list)}
}

// quantile is the value that the share q of a sorted list does not exceed.
func quantile(sorted []float64, q float64) float64 {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}
