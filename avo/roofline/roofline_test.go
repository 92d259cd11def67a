package roofline

import (
	"bytes"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/checker"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gas"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
)

// TestKernels calls the micro-kernels in both conventions. The read kernel must touch its buffer to the last byte and no further:
// the guard page behind it would fault.
func TestKernels(t *testing.T) {
	file, err := kernel.Compile(program.Programs())
	if err != nil {
		t.Fatal(err)
	}
	var source bytes.Buffer
	if err := gas.Print(&source, file, "test"); err != nil {
		t.Fatal(err)
	}
	sysv := checker.Assemble(t, source.String())
	for name, address := range Entries() {
		for _, fn := range []checker.Func{checker.ABI0(name, address, 0), sysv[name]} {
			switch name {
			case "zt_read_512":
				fn.Call(t, checker.AtEnd[byte](t, "p", 3*program.ReadChunk, 64), 3)
			case "zt_peak_vpdpbusd_512":
				fn.Call(t, 1000)
			default:
				t.Fatalf("no test for %s", name)
			}
		}
	}
}

// TestMeasurements checks units and bookkeeping, not speed: a result below or above what any CPU can do is a wrong formula.
func TestMeasurements(t *testing.T) {
	if bringup, err := target.Find("bringup"); err != nil {
		t.Fatal(err)
	} else if err := bringup.Accepts(target.Host()); err != nil {
		t.Skip(err)
	}
	if peak := VNNIPeak(1); peak < 20e9 || peak > 5e12 {
		t.Errorf("VNNI peak of one core: %g operations a second", peak)
	}
	for _, huge := range []bool{false, true} {
		if got, err := ReadBandwidth(2, 64<<20, huge); err != nil || got < 1e8 || got > 2e12 {
			t.Errorf("read bandwidth, huge pages %v: %g bytes a second, %v", huge, got, err)
		}
	}
}
