package roofline

import "slices"

// Limits is what a machine can do at best: what its speeds are held against.
type Limits struct {
	Points []Point  // by number of threads, fewest first
	Buffer int64    // bytes that one sweep reads
	Notes  []string // what a reader must know
}

// Point is what a machine reached with one number of threads.
type Point struct {
	Threads int
	// Small and Huge are bytes a second read from 4 KiB and from 2 MiB pages. Huge is nil where 2 MiB pages could not be had.
	Small, Huge Rate
	// VNNI, FMA and BF16 are operations a second, a multiplication and an addition being two: of 8-bit integers by VPDPBUSD,
	// of float32 by VFMADD231PS, and of bfloat16 by VDPBF16PS, all 512 bits wide. One that the CPU lacks is nil.
	VNNI, FMA, BF16 Rate
}

// Rate is a speed measured several times, in the order taken.
type Rate []float64

// Best returns the highest of the measurements, which is the one that counts as the limit, or 0 where there is none.
func (r Rate) Best() float64 {
	if len(r) == 0 {
		return 0
	}
	return slices.Max(r)
}

// Read returns the best read bandwidth from any pages, in bytes a second, or 0 where it was not measured.
func (p Point) Read() float64 { return max(p.Small.Best(), p.Huge.Best()) }

// At returns what was reached with threads, or a Point without measurements where that number was not tried.
func (l Limits) At(threads int) Point {
	for _, p := range l.Points {
		if p.Threads == threads {
			return p
		}
	}
	return Point{Threads: threads}
}
