// Package sgemm multiplies float32 matrices. It trains the reference model: every element is one chain of FMAs in the order of k, so
// that a result depends on nothing but its operands, and not on threads, blocking or the machine.
package sgemm

import (
	"fmt"
	"unsafe"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/sgemm/program"
)

// Multiples that the shape of a product has.
const (
	RowStep = program.Rows // rows of A and C
	ColStep = program.Cols // columns of B and C
)

// block is how many k are multiplied before the next panel: a panel of block rows fills two thirds of a 48 KiB L1 cache.
const block = 256

// Matrix is a view of rows x cols elements: element (i, j) is Data[i*Row+j*Col].
type Matrix struct {
	Data       []float32
	Rows, Cols int
	Row, Col   int // strides in elements
}

// Dense views data as rows of cols elements without gaps.
func Dense(data []float32, rows, cols int) Matrix { return Matrix{data, rows, cols, cols, 1} }

// T views m transposed.
func (m Matrix) T() Matrix { return Matrix{m.Data, m.Cols, m.Rows, m.Col, m.Row} }

// Part views rows x cols elements of m from (i, j) on.
func (m Matrix) Part(i, j, rows, cols int) Matrix {
	return Matrix{m.Data[i*m.Row+j*m.Col:], rows, cols, m.Row, m.Col}
}

// check panics where m reaches outside its data: the kernel would not.
func (m Matrix) check(name string) {
	if last := (m.Rows-1)*m.Row + (m.Cols-1)*m.Col; m.Rows < 1 || m.Cols < 1 || m.Row < 1 || m.Col < 1 || last >= len(m.Data) {
		panic(fmt.Sprintf("sgemm: %s is %d x %d elements with strides %d and %d in %d", name, m.Rows, m.Cols, m.Row, m.Col, len(m.Data)))
	}
}

// Panel is the scratch memory of one caller of AddProduct. Its zero value is ready.
type Panel struct {
	raw []float32
	b   []float32 // 64-byte aligned part of raw
}

func (p *Panel) memory() []float32 {
	if p.raw == nil {
		const align = 64 / 4
		p.raw = make([]float32, block*ColStep+align)
		skip := int(-uintptr(unsafe.Pointer(&p.raw[0])) % 64 / 4)
		p.b = p.raw[skip:][:block*ColStep]
	}
	return p.b
}

// AddProduct adds A times B to C. C has unit column stride, its rows are a multiple of RowStep and its columns of ColStep. It panics
// for other shapes. The CPU must have AVX-512F.
func (p *Panel) AddProduct(c, a, b Matrix) {
	a.check("A")
	b.check("B")
	c.check("C")
	if c.Rows != a.Rows || c.Cols != b.Cols || a.Cols != b.Rows || c.Rows%RowStep != 0 || c.Cols%ColStep != 0 || c.Col != 1 {
		panic(fmt.Sprintf("sgemm: no product of %d x %d and %d x %d in %d x %d with column stride %d",
			a.Rows, a.Cols, b.Rows, b.Cols, c.Rows, c.Cols, c.Col))
	}
	for k := 0; k < a.Cols; k += block {
		n := min(block, a.Cols-k)
		for j := 0; j < c.Cols; j += ColStep {
			panel := p.memory()[:n*ColStep]
			b.Part(k, j, n, ColStep).pack(panel)
			for i := 0; i < c.Rows; i += RowStep {
				zt_gemm_f32_8x32_avx512f(&a.Data[i*a.Row+k*a.Col], int64(4*a.Row), int64(4*a.Col), &panel[0], int64(n),
					&c.Data[i*c.Row+j], int64(4*c.Row))
			}
		}
	}
}

// pack copies a panel of ColStep columns row by row.
func (m Matrix) pack(dst []float32) {
	if m.Col == 1 {
		for i := range m.Rows {
			copy(dst[i*ColStep:][:ColStep], m.Data[i*m.Row:])
		}
		return
	}
	for j := range ColStep {
		column := m.Data[j*m.Col:]
		for i := range m.Rows {
			dst[i*ColStep+j] = column[i*m.Row]
		}
	}
}
