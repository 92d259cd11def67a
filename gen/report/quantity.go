package report

// Quantities that the page, the history and the README table look for by name. Who measures them uses these names; any other
// quantity is listed in its part's table.
const (
	SpeedOverStock   = "speed over stock"                // ratio of t/s, of Build or, where that is empty, of the tuned build; Case is the workload
	MemoryOverStock  = "resident memory over stock"      // ratio of bytes held
	Speed            = "speed"                           // t/s of Build
	WeightArithmetic = "weight arithmetic"               // GOP/s of Build: two operations per weight and token
	Intensity        = "arithmetic intensity"            // op/B: those operations per byte of weights read, weights read once per batch
	ReadShare        = "share of the read loop"          // % of Build
	Limit            = "limit"                           // GB/s or GOP/s of the machine; Case is "read, 2 MiB pages, 4 threads" or "VPDPBUSD, 1 thread"
	MeanKL           = "mean KL divergence"              // nats
	Bits             = "bits per weight"                 // as they are read; of coded float weights in part FloatsPart, Case is the kind of matrix and Note says which codes
	Gain             = "expected gain"                   // of products of single rows on coded float weights, over plain ones; beside Bits
	Goal             = "goal"                            // what a ratio or share in the same Case is to reach, on CPUs that it was agreed for
	BatchGain        = "batched speed over one sequence" // ratio of t/s, of Tuned
	SpeedOverOff     = "speed over off"                  // ratio of t/s with a feature on to those with it off; Part is the feature, Case the workload
	LoadOverOff      = "load time over off"              // the same of load times
	LoadTime         = "load time"                       // ms of Build
	Waits            = "share of waiting"                // % of the threads' time that they wait at barriers, of Build
	WaitsOverOff     = "share of waiting over off"       // ratio of Waits with a feature on to that with it off
	Barriers         = "barriers of a token"             // of each thread, of Build
	OnByDefault      = "on by default"                   // 1 or 0: of a feature, with how to turn it on and off as Note
	NotShown         = "not shown here"                  // of a feature that the machine cannot show; Note says why
	Product          = "product"                         // GFLOP/s of Build, two operations for each weight and token; Model is the matrix, Case the number of tokens
	ProductError     = "error of product"                // squared difference to stock's product, over its square
	SpeedOverOurs    = "speed over ours"                 // ratio of such products
	SpeedOverDefault = "speed over the default build"    // ratio of t/s; Build is a compiler choice
	Size             = "size"                            // MiB of a program of Build, with libraries of its own
	Noise            = "A/A noise"                       // ratio of two runs of one build to each other, less 1; Case is the workload
)

// FloatsPart is the part of `mage verify` that holds coded float weights to stock.
const FloatsPart = "floats"

// Names of builds in Result.Build that are not those of peers.
const (
	Stock  = "stock"
	Tuned  = "tuned"
	Before = "upstream's way" // tuned, with barriers and parts of work as in upstream's code

	Off, On = "off", "on" // one build, without a feature and with it
)
