package gemm

// RandomBlocks lets the kernel tests, which are outside the package, draw the same blocks as the reference's.
var RandomBlocks = randomBlocks
