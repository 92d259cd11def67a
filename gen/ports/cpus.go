package ports

import "maps"

// zenSources are those of the ports of both Zens. GCC's description was written by AMD, but files many instructions under one type;
// where that is too coarse (VPMADDWD as an addition, VPERMB as logic) LLVM's is taken. Widths and rates of loads, stores and dispatch are
// those of AMD's guides.
var zenSources = []string{
	"GCC, gcc/config/i386/zn4zn5.md: pipes by type of instruction; a 512-bit operation takes a pipe of Zen 4 twice",
	"LLVM 19, X86ScheduleZnver4.td (llvm-mca): pipes by instruction, VPDPBUSD's pipes and latency. Where it starts a 512-bit VPDPBUSD every other cycle, a Zen 4 was measured to start one every cycle; nor does it take three for VDPBF16PS, of which stock's products of BF16 reached 0.9 a cycle: it is taken for a multiplication",
	"AMD, Software Optimization Guide for Zen 4 (57647) and Zen 5 (58455): loads, stores and dispatch a cycle, eliminated moves",
}

var zenClasses = map[Class]string{
	VNNI:            "1*01",
	Multiply:        "1*01",
	IntegerMultiply: "1*03",
	Convert:         "1*23",
	Add:             "1*23",
	Extreme:         "1*01", // of floats
	Shuffle:         "1*12",
	Shift:           "1*12",
	Logic:           "1*0123",
	Select:          "1*0123",
	Compare:         "1*01",
	MaskLogic:       "1*23",
	ToMask:          "1*45", // the pipes of stores and moves to and from general registers
	FromMask:        "1*23",
	ToVector:        "1*45",
	Divide:          "3*D",
	VectorLoad:      "1*LM",
	ScalarLoad:      "1*LMN",
	Store:           "1*S",
	Scalar:          "1*abcd",
	Branch:          "1*aj",
}

var zenOpcodes = map[string]string{
	"VCVTPH2PS":      "1*12+1*23", // spreads, then converts
	"VCVTPS2PH":      "1*12+1*23",
	"VPMULTISHIFTQB": "1*0123",
	"VPMOVDB":        "2*12",
	"VPMOVDW":        "2*12",
	"VPMOVWB":        "2*12",
	"VPMOVSDB":       "2*12",
	"VPEXPANDB":      "2*12",
	"VGF2P8AFFINEQB": "1*03",
}

// with returns entries, of which others replace some.
func with[K comparable](entries, others map[K]string) map[K]string {
	entries = maps.Clone(entries)
	maps.Copy(entries, others)
	return entries
}

// CPUs are those that kernels are bounded for.
var CPUs = []CPU{
	{
		Name: "zen4", Title: "AMD Zen 4", Sources: zenSources, Pipes: "FP",
		Dispatch: 6, Vector: 256, Load: 256, Store: 256, Latency: 4,
		classes: zenClasses, opcodes: zenOpcodes,
	},
	{
		Name: "zen5", Title: "AMD Zen 5 with 512-bit pipes (Ryzen 9000 desktop, EPYC 9005)", Sources: zenSources, Pipes: "FP",
		Dispatch: 8, Vector: 512, Load: 512, Store: 256, Latency: 4,
		classes: with(zenClasses, map[Class]string{
			Compare:    "1*12",
			MaskLogic:  "1*03",
			ScalarLoad: "1*LMNO",
			Store:      "1*ST",
			Scalar:     "1*abcdef",
		}),
		opcodes: zenOpcodes,
	},
	{
		Name: "intel", Title: "Intel server cores with two 512-bit pipes (Sapphire Rapids)", Pipes: "p",
		Sources: []string{
			"measured on an Intel Xeon with AMX: each instruction alone, beside VPERMB (port 5) and beside VPSRLD (port 0), relative to VPADDD taken as half a cycle",
			"LLVM 19, X86SchedSapphireRapids.td: scalar ports, VPDPBUSD's latency. It gives 512-bit multiplications port 0 alone, which these do not bear out: they take port 5 too",
		},
		Dispatch: 6, Vector: 512, Load: 512, Store: 256, Latency: 5,
		classes: map[Class]string{
			VNNI:            "1*05",
			Multiply:        "1*05",
			IntegerMultiply: "1*05",
			Convert:         "1*05",
			Add:             "1*05",
			Extreme:         "1*0",
			Shuffle:         "1*5",
			Shift:           "1*0",
			Logic:           "1*05",
			Select:          "1*05",
			Compare:         "1*5",
			MaskLogic:       "1*0",
			ToMask:          "1*5",
			FromMask:        "1*0",
			ToVector:        "1*5",
			Divide:          "1*0+3*D",
			VectorLoad:      "1*LM",
			ScalarLoad:      "1*LMN",
			Store:           "1*ST",
			Scalar:          "1*0156a",
			Branch:          "1*06",
		},
		opcodes: map[string]string{
			"VPMULLD":   "2*05",
			"VPMAXSD":   "1*0",
			"VPMINSD":   "1*0",
			"VCVTPH2PS": "1*05+1*5",
			"VCVTPS2PH": "1*05+1*5",
			"VPERMI2B":  "1*05+2*5",
			"VPERMT2B":  "1*05+2*5",
			"VPMOVDB":   "2*5",
			"VPMOVDW":   "2*5",
			"VPMOVWB":   "2*5",
			"VPMOVSDB":  "2*5",
			"VPEXPANDB": "2*5",
			"VDPBF16PS": "2*0+2*5",
			"POPCNTQ":   "1*1",
			"VPMOVB2M":  "1*0",
		},
	},
}
