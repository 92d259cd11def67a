// Package golden draws the inputs of golden data, which upstream's functions were given in C++ (llama.cpp v0.5.0, clang-19
// -O3 -march=znver4): a stream that is simple enough to be written down twice, so that the data need hold answers alone.
package golden

import (
	"hash/fnv"
	"math"
)

// Stream is SplitMix64 (Steele, Lea and Flood 2014); its value is the seed.
type Stream uint64

// Next returns the next 64 bits.
func (s *Stream) Next() uint64 {
	*s += 0x9e3779b97f4a7c15
	z := uint64(*s)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// Bytes returns n bytes: those of as many numbers as it takes, low ones first.
func (s *Stream) Bytes(n int) []byte {
	b := make([]byte, n)
	var v uint64
	for i := range b {
		if i%8 == 0 {
			v = s.Next()
		}
		b[i] = byte(v >> (i % 8 * 8))
	}
	return b
}

// Activation returns a float in [-8, 8): 24 bits times one of eight powers of two.
func (s *Stream) Activation() float32 {
	v := s.Next()
	return float32(math.Ldexp(float64(v>>40)-0x1p23, -20-int(v&7)))
}

// Hash is FNV-1a over little endian numbers, all NaNs of a size alike.
type Hash uint64

// NewHash returns the hash of nothing.
func NewHash() Hash { return Hash(fnv.New64a().Sum64()) }

// Byte adds a byte.
func (h *Hash) Byte(b byte) { *h = (*h ^ Hash(b)) * 1099511628211 }

// Half adds an FP16.
func (h *Hash) Half(v uint16) {
	if v&0x7fff > 0x7c00 {
		v = 0x7e00
	}
	h.Byte(byte(v))
	h.Byte(byte(v >> 8))
}

// Float adds a float32.
func (h *Hash) Float(f float32) {
	b := math.Float32bits(f)
	if f != f {
		b = 0x7fc00000
	}
	for i := range 4 {
		h.Byte(byte(b >> (8 * i)))
	}
}
