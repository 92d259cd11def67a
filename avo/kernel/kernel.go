// Package kernel is what every kernel program shares: the description that the catalog, the C header and the tests are made
// from, and the way from a set of programs to avo's compiled IR.
package kernel

import (
	"fmt"
	"strings"

	"github.com/mmcloughlin/avo/attr"
	"github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/ir"
	"github.com/mmcloughlin/avo/pass"
)

// Op is what a kernel computes.
type Op string

const (
	GEMM     Op = "gemm"     // activation rows times a panel of packed weights
	Quantize Op = "quantize" // float activations to the blocks a GEMM reads
	Expand   Op = "expand"   // a panel to one of a wider type, which has GEMM kernels
	Dot      Op = "dot"      // a row of activations times a panel of coded float weights, summed as vec_dot does
	Tile     Op = "tile"     // rows of activations times such a panel, summed as tinyBLAS does
	Read     Op = "read"     // stream memory and drop it: the roofline's bandwidth side
	Peak     Op = "peak"     // repeat one arithmetic instruction: the roofline's compute side
)

// Arg is one argument of a kernel. Both ABIs pass all of them as 8-byte integers or pointers.
type Arg struct {
	Name string
	Go   string // Go type: *byte, *float32, int64 or uint64
	Out  bool   // the kernel writes through this pointer
	Doc  string
}

// C returns the argument's type in C, or an error for a Go type that has none here.
func (a Arg) C() (string, error) {
	c, ok := map[string]string{
		"*byte": "void *", "*float32": "float *", "int64": "int64_t ", "uint64": "uint64_t ",
	}[a.Go]
	if !ok {
		return "", fmt.Errorf("argument %s has type %s, which no C type is written down for", a.Name, a.Go)
	}
	if strings.HasPrefix(a.Go, "*") && !a.Out {
		c = "const " + c
	}
	return c, nil
}

// Info describes a kernel.
type Info struct {
	Name string // the symbol in both ABIs: zt_<op>_<type>_<rows>x<cols>_<isa>, or of coded float weights zt_<op>_<domain>_<code>[_<rows>]
	Op   Op
	Type string // ggml's name of the weight type, or <domain>_<code> of coded float weights, empty for kernels that serve none
	Rows int    // activation rows a call computes, of products only
	Cols int    // weight rows in a panel, of products only
	// Ahead is set if the kernel prefetches the weights that its caller is going to need, GEMM only.
	Ahead bool
	Args  []Arg
	// Oracle is what the results are held to, bit for bit.
	Oracle string
	Doc    string
}

// Prototype returns the kernel's declaration in C.
func (k Info) Prototype() (string, error) {
	params := make([]string, len(k.Args))
	for i, a := range k.Args {
		c, err := a.C()
		if err != nil {
			return "", fmt.Errorf("%s: %w", k.Name, err)
		}
		params[i] = c + a.Name
	}
	return "void " + k.Name + "(" + strings.Join(params, ", ") + ");", nil
}

// Program is a kernel and the code that emits its body.
type Program struct {
	Info
	Emit func(*build.Context)
}

// Compile runs the programs through avo into one file of compiled IR, in their order.
func Compile(programs []Program) (*ir.File, error) {
	ctx := build.NewContext()
	ctx.ConstraintExpr("amd64")
	for _, p := range programs {
		var args []string
		doc := []string{p.Name + " " + p.Doc, ""}
		for _, a := range p.Args {
			args = append(args, a.Name+" "+a.Go)
			doc = append(doc, "  - "+a.Name+": "+a.Doc)
		}
		ctx.Function(p.Name)
		ctx.Attributes(attr.NOSPLIT)
		ctx.Pragma("noescape")
		ctx.SignatureExpr("func(" + strings.Join(args, ", ") + ")")
		ctx.Doc(doc...)
		p.Emit(ctx)
	}
	file, err := ctx.Result()
	if err != nil {
		return nil, fmt.Errorf("build kernels: %w", err)
	}
	if err := pass.Compile.Execute(file); err != nil {
		return nil, fmt.Errorf("compile kernels: %w", err)
	}
	return file, nil
}
