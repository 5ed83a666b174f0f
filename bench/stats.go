// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"slices"
)

// A Summary is what is said of the repeats of one measurement. The zero Summary
// stands for no repeats.
type Summary struct {
	N      int     `json:"n"`
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// Summarize returns the median and the bounds of v, which it leaves unchanged.
// The median of an even number of values is the mean of the middle two.
func Summarize(v []float64) Summary {
	if len(v) == 0 {
		return Summary{}
	}
	s := slices.Sorted(slices.Values(v))
	mid := len(s) / 2
	median := s[mid]
	if len(s)%2 == 0 {
		median = (s[mid-1] + s[mid]) / 2
	}
	return Summary{N: len(s), Median: median, Min: s[0], Max: s[len(s)-1]}
}

// Percentile returns the p-quantile (0 ≤ p ≤ 1) of the sorted values by the
// nearest-rank method: the smallest value that at least the fraction p of them do
// not exceed. It returns 0 for no values.
func Percentile(sorted []int64, p float64) int64 {
	if len(sorted) == 0 {
		return 0
	}
	rank := int(math.Ceil(p * float64(len(sorted))))
	return sorted[min(max(rank, 1), len(sorted))-1]
}
