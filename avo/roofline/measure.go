package roofline

import (
	"context"
	"fmt"
	"runtime"
	"slices"
)

// Measure finds the limits of this machine for 1, 2, 4 ... threads, for one on each CPU and for the given number. count takes
// the progress.
func Measure(ctx context.Context, threads int, count func(done, total int, doing string)) (Limits, error) {
	numbers := []int{threads, runtime.NumCPU()}
	for n := 1; n < runtime.NumCPU(); n *= 2 {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	numbers = slices.Compact(numbers)
	l := Limits{Buffer: 1 << 30}
	for i, n := range numbers {
		if err := ctx.Err(); err != nil {
			return Limits{}, err
		}
		count(i, len(numbers), fmt.Sprintf("%d threads", n))
		small, err := ReadBandwidth(n, l.Buffer, false)
		if err != nil {
			return Limits{}, err
		}
		huge, err := ReadBandwidth(n, l.Buffer, true)
		if err != nil {
			return Limits{}, err
		}
		l.Points = append(l.Points, Point{Threads: n, Small: Rate{small}, Huge: Rate{huge}, VNNI: Rate{VNNIPeak(n)}})
	}
	return l, nil
}
