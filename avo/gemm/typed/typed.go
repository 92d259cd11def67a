// Package typed holds the GEMM kernels of every weight type that unpacks in registers, as generated Go assembly. They read panels
// as weight.Spec.Pack lays them out and groups as activation.Lay does; weight.Spec.Dot is what each result is held to.
package typed
