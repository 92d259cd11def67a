// Package dot holds the kernels that multiply activations by coded float weights, as generated Go assembly. They read panels as code.Encode
// lays them out and activations as code.Domain.Group does; code.Panel.Products is what each result is held to.
package dot
