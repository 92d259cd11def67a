package gemm

import (
	"encoding/binary"
	"math"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/activation"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/ieee"
)

// BlockQ80 is ggml's block_q8_0: an FP16 scale and 32 signed bytes (ggml/src/ggml-common.h).
type BlockQ80 struct {
	Scale  uint16 // FP16
	Quants [BlockSize]int8
}

// PackQ80 packs weight rows of equal length into panels of cols rows. Rows that the last panel lacks are zero.
func PackQ80(rows [][]BlockQ80, cols int) []byte {
	blocks := len(rows[0])
	panels := (len(rows) + cols - 1) / cols
	size := PanelBlockBytes(cols)
	packed := make([]byte, panels*blocks*size)
	for p := range panels {
		for b := range blocks {
			block := packed[(p*blocks+b)*size:][:size]
			for c := range cols {
				var w BlockQ80
				if row := p*cols + c; row < len(rows) {
					w = rows[row][b]
				}
				for k, q := range w.Quants {
					block[WeightOffset(cols, k/4, 0)+4*c+k%4] = byte(q) ^ 0x80
				}
				binary.LittleEndian.PutUint16(block[ScaleOffset(cols)+2*c:], w.Scale)
			}
		}
	}
	return packed
}

// UnpackQ80 returns the first n rows of packed panels as they were given to PackQ80.
func UnpackQ80(packed []byte, n, blocks, cols int) [][]BlockQ80 {
	size := PanelBlockBytes(cols)
	rows := make([][]BlockQ80, n)
	for r := range rows {
		rows[r] = make([]BlockQ80, blocks)
		for b := range rows[r] {
			block := packed[(r/cols*blocks+b)*size:]
			w := &rows[r][b]
			for k := range w.Quants {
				w.Quants[k] = int8(block[WeightOffset(cols, k/4, 0)+4*(r%cols)+k%4] ^ 0x80)
			}
			w.Scale = binary.LittleEndian.Uint16(block[ScaleOffset(cols)+2*(r%cols):])
		}
	}
	return rows
}

// QuantizeQ80 quantizes a row of activations to blocks of Q8_0 as stock does.
func QuantizeQ80(x []float32) []BlockQ80 {
	row := activation.Quantize(activation.Q8_0, x)
	blocks := make([]BlockQ80, len(row.Delta))
	for b := range blocks {
		blocks[b].Scale = ieee.ToFloat16(row.Delta[b])
		copy(blocks[b].Quants[:], row.Quants[b*BlockSize:])
	}
	return blocks
}

// GroupQ80 lays quantized activation rows out as one group.
func GroupQ80(rows [][]BlockQ80) []byte {
	n, blocks := len(rows), len(rows[0])
	size := GroupBlockBytes(n)
	group := make([]byte, blocks*size)
	for b := range blocks {
		block := group[b*size:][:size]
		for r := range rows {
			a := &rows[r][b]
			var sum int32
			for k, q := range a.Quants {
				block[QuantOffset(r)+k] = byte(q)
				sum += int32(q)
			}
			binary.LittleEndian.PutUint32(block[DeltaOffset(n, r):], math.Float32bits(ieee.Float16(a.Scale)))
			binary.LittleEndian.PutUint32(block[CorrOffset(n, r):], uint32(-128*sum))
		}
	}
	return group
}

// DotQ80 is the oracle of every Q8_0 kernel: for each block in k order, acc = fma(float(dot), d_w*d_a, acc). Go must not fuse
// or widen here, hence the explicit conversions.
func DotQ80(w, a []BlockQ80, acc float32) float32 {
	for b := range w {
		var dot int32
		for k := range w[b].Quants {
			dot += int32(w[b].Quants[k]) * int32(a[b].Quants[k])
		}
		scale := float32(ieee.Float16(w[b].Scale) * ieee.Float16(a[b].Scale))
		acc = ieee.FMA(float32(dot), scale, acc)
	}
	return acc
}
