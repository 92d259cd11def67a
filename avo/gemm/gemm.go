// Package gemm holds the int8 GEMM kernels of every weight type and the quantizers of their activations, as generated Go assembly. They
// read panels as weight.Spec.Pack lays them out and groups as activation.Lay does; weight.Spec.Dot is what each result is held to.
package gemm
