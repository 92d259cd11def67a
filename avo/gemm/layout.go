// Package gemm is the int8 GEMM family: the layouts that its kernels read, their Go reference, and the kernels themselves as
// generated Go assembly. Program emits them; the C++ runtime packs and calls the same layouts.
//
// A panel holds Cols weight rows. Along k it is a sequence of blocks of 32, and in each block the rows are interleaved by
// 4 bytes, the unit that VPDPBUSD multiplies:
//
//	w+128 as uint8  [8 steps of k][Cols rows][4]   step j holds k = 4j..4j+3
//	scale as FP16   [Cols rows]
//
// With 32 rows that is 1088 bytes a block, the size that 32 blocks of Q8_0 have in a GGUF, and a multiple of 64.
//
// A group holds the activations of the rows that one GEMM call computes, from 1 to the tile's height. In each block of 32:
//
//	quants as int8       [rows][32]
//	delta as float32     [rows]      the FP16 scale, widened
//	corr as int32        [rows]      -128*sum(quants), which undoes the +128 of the weights
package gemm

// BlockSize is the number of elements along k that share a scale.
const BlockSize = 32

// PanelBlockBytes returns the size of one block of a panel of cols weight rows.
func PanelBlockBytes(cols int) int { return cols * (BlockSize + 2) }

// WeightOffset returns where in a panel block step j of rows 16v..16v+15 lies.
func WeightOffset(cols, j, v int) int { return j*cols*4 + v*64 }

// ScaleOffset returns where in a panel block the scales lie.
func ScaleOffset(cols int) int { return cols * BlockSize }

// GroupBlockBytes returns the size of one block of a group of rows activations.
func GroupBlockBytes(rows int) int { return rows * (BlockSize + 4 + 4) }

// QuantOffset returns where in a group block the quants of row r lie.
func QuantOffset(r int) int { return r * BlockSize }

// DeltaOffset returns where in a group block of rows activations the scale of row r lies.
func DeltaOffset(rows, r int) int { return rows*BlockSize + 4*r }

// CorrOffset returns where in a group block of rows activations the correction of row r lies.
func CorrOffset(rows, r int) int { return rows*(BlockSize+4) + 4*r }

// Heights splits n activation rows into groups of at most tile rows. All but the last two groups are full; the last two are
// as equal as they can be, because a group of 1 costs as much weight traffic as a full one.
func Heights(n, tile int) []int {
	var heights []int
	for ; n >= 2*tile; n -= tile {
		heights = append(heights, tile)
	}
	if n > tile {
		heights = append(heights, (n+1)/2)
		n /= 2
	}
	if n > 0 {
		heights = append(heights, n)
	}
	return heights
}
