package bench

import (
	"math"
	"testing"
)

func TestMedianIsTheMiddleWhateverTheOrder(t *testing.T) {
	for _, tc := range []struct {
		list []float64
		want float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := median(tc.list); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.list, got, tc.want)
		}
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("median of nothing is %v", got)
	}
}

func TestRatiosCompareWithinARound(t *testing.T) {
	// The machine was four times as slow in the second round.
	got := ratios([]float64{90, 20, 80}, []float64{100, 25, 100})
	if want := (ratio{0.8, 0.8, 0.9}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestQuantile(t *testing.T) {
	var list []float64
	for i := range 100 {
		list = append(list, float64(i))
	}
	if p50, p99, all := quantile(list, 0.5), quantile(list, 0.99), quantile(list, 1); p50 != 50 || p99 != 99 || all != 99 {
		t.Errorf("got %v, %v, %v", p50, p99, all)
	}
}
