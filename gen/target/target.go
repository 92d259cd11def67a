// Package target is the table of CPUs that llama-zen-turbo builds for. Compiler flags, kernel tiles and the guard that a
// binary runs before anything else all come from a row of it.
package target

import (
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/cpuid/v2"
)

// Models is an inclusive range of CPUID models of one family.
type Models struct {
	Family   int
	From, To int
}

// Tile is the shape of the int8 GEMM core: Cols weight rows (a multiple of the 16 dwords of a zmm register) by Rows
// activation rows.
type Tile struct {
	Rows, Cols int
}

// Target describes one CPU to build for.
type Target struct {
	Name  string
	Title string // what people call the CPU

	// Flags select the instruction set for clang and GCC. They precede the build type's own flags.
	Flags []string
	// Vendor and Models say which CPUs the binaries accept. An empty Vendor accepts every CPU that has Features.
	Vendor string
	Models []Models
	// Features are what the kernels and the compiler's code use.
	Features []Feature

	L1D, L2, L3   int // bytes; L3 is that of one CCD
	DatapathBits  int // width of the vector ALUs
	VNNIPerCycle  int // 512-bit VPDPBUSD a cycle
	LoadsPerCycle int // 512-bit loads a cycle
	Tile          Tile

	Releasable bool // whether `mage release` may package it
}

// Feature is a CPUID feature and the bit that announces it, for code that asks CPUID itself.
type Feature struct {
	cpuid.FeatureID
	Leaf, Subleaf uint32
	Register      int // 0 eax, 1 ebx, 2 ecx, 3 edx
	Bit           int
}

// kernelFeatures is what the generated kernels and the C++ beside them need. Bits: AMD64 Architecture Programmer's Manual
// volume 3, appendix D and E; AVX512_BF16: Intel's Software Developer's Manual volume 2, CPUID.
var kernelFeatures = []Feature{
	{cpuid.FMA3, 1, 0, 2, 12},
	{cpuid.F16C, 1, 0, 2, 29},
	{cpuid.BMI1, 7, 0, 1, 3},
	{cpuid.BMI2, 7, 0, 1, 8},
	{cpuid.AVX512F, 7, 0, 1, 16},
	{cpuid.AVX512DQ, 7, 0, 1, 17},
	{cpuid.AVX512CD, 7, 0, 1, 28},
	{cpuid.AVX512BW, 7, 0, 1, 30},
	{cpuid.AVX512VL, 7, 0, 1, 31},
	{cpuid.AVX512VBMI, 7, 0, 2, 1},
	{cpuid.AVX512VBMI2, 7, 0, 2, 6},
	{cpuid.GFNI, 7, 0, 2, 8},
	{cpuid.VAES, 7, 0, 2, 9},
	{cpuid.AVX512VNNI, 7, 0, 2, 11},
	{cpuid.AVX512BITALG, 7, 0, 2, 12},
	{cpuid.AVX512VPOPCNTDQ, 7, 0, 2, 14},
	{cpuid.AVX512BF16, 7, 1, 0, 5},
}

// The 32 x 6 tile: 12 integer and 12 float accumulators, two weight registers and the scales' temporaries fill the 32 zmm
// registers, and it needs one load a VPDPBUSD where narrower tiles need more. A sweep on Zen 4 found it and 48 x 4 best. For Zen 5 it is
// argued from the bounds of all kernels (gen/ports/bounds.md, Tiles); what was measured for a target is in tune/<target>.md.
var tile = Tile{Rows: 6, Cols: 32}

var targets = []Target{
	{
		Name:  "zen5",
		Title: "AMD Zen 5 (Ryzen 9000, EPYC 9005)",
		Flags: []string{"-march=znver5"},
		// Linux arch/x86/kernel/cpu/amd.c and LLVM's Host.cpp: family 1Ah models 50h-5Fh, 80h-AFh and C0h up are Zen 6.
		Vendor:   "AuthenticAMD",
		Models:   []Models{{0x1a, 0x00, 0x2f}, {0x1a, 0x40, 0x4f}, {0x1a, 0x60, 0x7f}},
		Features: kernelFeatures,
		L1D:      48 << 10, L2: 1 << 20, L3: 32 << 20,
		DatapathBits: 512, VNNIPerCycle: 2, LoadsPerCycle: 2,
		Tile:       tile,
		Releasable: true,
	},
	{
		Name:  "bringup",
		Title: "any CPU with the AVX-512 features of Zen 4 (development build)",
		// znver4 also promises instructions that only AMD has; without them the build runs on Intel servers too.
		Flags:    []string{"-march=znver4", "-mno-sse4a", "-mno-clzero", "-mno-mwaitx", "-mno-wbnoinvd"},
		Features: kernelFeatures,
		L1D:      32 << 10, L2: 1 << 20, L3: 32 << 20,
		DatapathBits: 256, VNNIPerCycle: 1, LoadsPerCycle: 1,
		Tile: tile,
	},
}

// All returns every target, the product first.
func All() []Target { return append([]Target(nil), targets...) }

// Find returns the target called name.
func Find(name string) (Target, error) {
	var names []string
	for _, t := range targets {
		if t.Name == name {
			return t, nil
		}
		names = append(names, t.Name)
	}
	return Target{}, fmt.Errorf("no target %q; there are %s", name, strings.Join(names, " and "))
}

// CPU is what CPUID says of a processor.
type CPU struct {
	Vendor, Name  string
	Family, Model int
	Has           func(cpuid.FeatureID) bool
}

// Host returns the CPU this process runs on.
func Host() CPU {
	return CPU{
		Vendor: cpuid.CPU.VendorString,
		Name:   strings.TrimSpace(cpuid.CPU.BrandName),
		Family: cpuid.CPU.Family,
		Model:  cpuid.CPU.Model,
		Has:    func(id cpuid.FeatureID) bool { return cpuid.CPU.Has(id) },
	}
}

func (c CPU) String() string {
	return fmt.Sprintf("%s (%s family %Xh model %Xh)", c.Name, c.Vendor, c.Family, c.Model)
}

// Accepts says why binaries built for t do not run on cpu, or nil if they do.
func (t Target) Accepts(cpu CPU) error {
	if t.Vendor != "" {
		ok := false
		for _, m := range t.Models {
			ok = ok || cpu.Vendor == t.Vendor && cpu.Family == m.Family && m.From <= cpu.Model && cpu.Model <= m.To
		}
		if !ok {
			return fmt.Errorf("%s is not %s", cpu, t.Title)
		}
	}
	var missing []string
	for _, f := range t.Features {
		if !cpu.Has(f.FeatureID) {
			missing = append(missing, f.String())
		}
	}
	if missing != nil {
		return fmt.Errorf("%s lacks %s", cpu, strings.Join(missing, ", "))
	}
	return nil
}

// Choose returns the target to build: the one ZT_TARGET names, else the product where cpu can run it, else bringup.
func Choose(cpu CPU) (Target, error) {
	if name := os.Getenv("ZT_TARGET"); name != "" {
		t, err := Find(name)
		if err != nil {
			return Target{}, fmt.Errorf("ZT_TARGET: %w", err)
		}
		return t, nil
	}
	if product := targets[0]; product.Accepts(cpu) == nil {
		return product, nil
	}
	return Find("bringup")
}
