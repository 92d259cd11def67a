package roofline

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/statistics"
)

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

// Table writes l for a terminal: the best and the median of each measurement, then the notes.
func (l Limits) Table(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tw, "threads\tread, 4 KiB pages\tread, 2 MiB pages\tint8\tfloat32\tbfloat16\t")
	fmt.Fprintln(tw, "\tGB/s\tGB/s\tVPDPBUSD, GOP/s\tVFMADD231PS, GOP/s\tVDPBF16PS, GOP/s\t")
	for _, p := range l.Points {
		fmt.Fprintf(tw, "%d\t", p.Threads)
		for i, r := range []Rate{p.Small, p.Huge, p.VNNI, p.FMA, p.BF16} {
			digits := 0
			if i < 2 {
				digits = 1
			}
			if r == nil {
				fmt.Fprint(tw, "none\t")
			} else {
				fmt.Fprintf(tw, "%.*f (%.*f)\t", digits, r.Best()/1e9, digits, statistics.Median(r)/1e9)
			}
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\nThe best of up to %d measurements, their median in brackets. A sweep reads %d MiB; a multiplication and an addition are two operations.\n", maxSamples, l.Buffer>>20)
	for _, note := range l.Notes {
		fmt.Fprintln(w, note)
	}
	return nil
}
