package activation

import (
	"encoding/binary"
	"math"
)

// A group holds the activations of the rows that one GEMM call computes, block after block along k. Two layouts serve every
// weight type, so matrices of different types that read one tensor share its quantization.
//
// In each block of 32, for R rows, 44 bytes a row:
//
//	quants as int8   [R][32]
//	delta as float32 [R]
//	corr as int32    [R]      -128*sum(quants), which undoes an offset of 128 on the weights; offset 2^n takes it shifted right by 7-n
//	sum as float32   [R]      Q8_1's s
//
// In each block of 256, 372 bytes a row:
//
//	quants as int8   [R][256]
//	delta as float32 [R]
//	corr as int32    [R][16]  -sum of 16 quants each; an offset of 2^n takes it shifted left by n
//	sums as int16    [R][8]   sums of 32 quants: what mins of 32 weights multiply, two to a dword
//	sums as int16    [R][16]  sums of 16 quants
type Group struct {
	Format
	Rows int
}

// BlockBytes returns the size of one block of the group.
func (g Group) BlockBytes() int {
	if g.Format == Q8_K {
		return g.Rows * (256 + 4 + 64 + 16 + 32)
	}
	return g.Rows * (32 + 4 + 4 + 4)
}

// Quants returns where in a block the quants of row r lie.
func (g Group) Quants(r int) int { return r * g.Block() }

// Delta returns where in a block the scale of row r lies.
func (g Group) Delta(r int) int { return g.Rows*g.Block() + 4*r }

// Corr returns where in a block the corrections of row r lie: one, or of Q8_K sixteen.
func (g Group) Corr(r int) int {
	if g.Format == Q8_K {
		return g.Delta(g.Rows) + 64*r
	}
	return g.Delta(g.Rows) + 4*r
}

// Sum returns where in a block of 32 Q8_1's s of row r lies.
func (g Group) Sum(r int) int { return g.Corr(g.Rows) + 4*r }

// Sums32 returns where in a block of 256 the eight sums of 32 of row r lie.
func (g Group) Sums32(r int) int { return g.Corr(g.Rows) + 16*r }

// Sums16 returns where in a block of 256 the sixteen sums of 16 of row r lie.
func (g Group) Sums16(r int) int { return g.Sums32(g.Rows) + 32*r }

// Lay lays rows of equal length and of one layout out as a group.
func Lay(rows []Row) []byte {
	g := Group{rows[0].Format, len(rows)}
	size := g.BlockBytes()
	group := make([]byte, len(rows[0].Delta)*size)
	for b := range rows[0].Delta {
		block := group[b*size:][:size]
		put := func(at int, v uint32) { binary.LittleEndian.PutUint32(block[at:], v) }
		for r, row := range rows {
			quants := row.Quants[b*g.Block():][:g.Block()]
			for k, q := range quants {
				block[g.Quants(r)+k] = byte(q)
			}
			put(g.Delta(r), math.Float32bits(row.Delta[b]))
			if g.Format != Q8_K {
				put(g.Corr(r), uint32(-128*sum(quants)))
				put(g.Sum(r), math.Float32bits(row.Sum[b]))
				continue
			}
			for i := range 16 {
				s := sum(quants[16*i:][:16])
				put(g.Corr(r)+4*i, uint32(-s))
				binary.LittleEndian.PutUint16(block[g.Sums16(r)+2*i:], uint16(s))
			}
			for i := range 8 {
				binary.LittleEndian.PutUint16(block[g.Sums32(r)+2*i:], uint16(sum(quants[32*i:][:32])))
			}
		}
	}
	return group
}

func sum(quants []int8) int32 {
	var s int32
	for _, q := range quants {
		s += int32(q)
	}
	return s
}
