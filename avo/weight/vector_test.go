package weight

import "math/bits"

// The vector operations that kernels unpack with, on registers of 64 bytes.

// vector is a register of 64 bytes.
type vector [64]byte

func load(memory []byte) (v vector) {
	copy(v[:], memory)
	return v
}

// shift is VPSRLW, or VPSLLW by -n: words of 16 bits.
func (v vector) shift(n int) (r vector) {
	for i := 0; i < 64; i += 2 {
		w := uint16(v[i]) | uint16(v[i+1])<<8
		if n < 0 {
			w <<= -n
		} else {
			w >>= n
		}
		r[i], r[i+1] = byte(w), byte(w>>8)
	}
	return r
}

// and is VPANDD with a mask that every word repeats.
func (v vector) and(mask uint16) vector {
	for i := range v {
		v[i] &= byte(mask >> (i % 2 * 8))
	}
	return v
}

// choose is VPTERNLOGD $0xca: the bits of a where mask has ones, of b elsewhere.
func choose(mask uint16, a, b vector) (r vector) {
	for i := range r {
		m := byte(mask >> (i % 2 * 8))
		r[i] = a[i]&m | b[i]&^m
	}
	return r
}

// permute is VPERMB of a table of 16 that a register repeats.
func (v vector) permute(table [16]byte) (r vector) {
	for i := range r {
		r[i] = table[v[i]&15]
	}
	return r
}

// permute64 is VPERMB.
func (v vector) permute64(table vector) (r vector) {
	for i := range r {
		r[i] = table[v[i]&63]
	}
	return r
}

// permute128 is VPERMI2B: a table of two registers.
func (v vector) permute128(table []byte) (r vector) {
	for i := range r {
		r[i] = table[v[i]&127]
	}
	return r
}

// blend is VPTESTMB, or VPMOVB2M for bit 7, and VPBLENDMB: bytes of b where the bit of v is set, of a elsewhere.
func (v vector) blend(bit int, a, b vector) vector {
	for i := range v {
		if v[i]>>bit&1 != 0 {
			a[i] = b[i]
		}
	}
	return a
}

// spread is VPMULTISHIFTQB: byte i of a qword becomes the 8 bits of it that start at bit control[i], round the end.
func (v vector) spread(control func(dword, i int) int) (r vector) {
	for q := 0; q < 64; q += 8 {
		var w uint64
		for i := range 8 {
			w |= uint64(v[q+i]) << (8 * i)
		}
		for i := range 8 {
			r[q+i] = byte(bits.RotateLeft64(w, -(control(32*(i/4), i%4) & 63)))
		}
	}
	return r
}

// even is VGF2P8AFFINEQB with the matrix that keeps 7 bits and makes the eighth their parity.
func (v vector) even() vector {
	for i := range v {
		v[i] = v[i]&127 | byte(bits.OnesCount8(v[i]&127))&1<<7
	}
	return v
}
