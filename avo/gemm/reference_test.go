package gemm

import (
	"math/rand/v2"
	"reflect"
	"testing"
)

func TestHeights(t *testing.T) {
	for tile := 1; tile <= 8; tile++ {
		for n := range 100 {
			sum := 0
			heights := Heights(n, tile)
			for i, h := range heights {
				if h < 1 || h > tile {
					t.Fatalf("%d rows in tiles of %d: %v", n, tile, heights)
				}
				if i < len(heights)-2 && h != tile {
					t.Errorf("%d rows in tiles of %d: %v: only the last two may be short", n, tile, heights)
				}
				sum += h
			}
			if sum != n {
				t.Fatalf("%d rows in tiles of %d: %v", n, tile, heights)
			}
			if k := len(heights); k != (n+tile-1)/tile {
				t.Errorf("%d rows in tiles of %d: %d groups", n, tile, k)
			}
		}
	}
	if got := Heights(8, 6); !reflect.DeepEqual(got, []int{4, 4}) {
		t.Errorf("8 rows in tiles of 6: %v, want [4 4]", got)
	}
}

func TestPackUnpack(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{1, 31, 32, 33, 100} {
		rows := randomBlocks(r, n, 5)
		packed := PackQ80(rows, 32)
		if want := (n + 31) / 32 * 5 * 1088; len(packed) != want {
			t.Fatalf("%d rows pack into %d bytes, want %d", n, len(packed), want)
		}
		if !reflect.DeepEqual(UnpackQ80(packed, n, 5, 32), rows) {
			t.Errorf("%d rows do not come back as they were", n)
		}
	}
}

// randomBlocks returns rows of blocks with every int8 and every finite scale.
func randomBlocks(r *rand.Rand, n, blocks int) [][]BlockQ80 {
	rows := make([][]BlockQ80, n)
	for i := range rows {
		rows[i] = make([]BlockQ80, blocks)
		for b := range rows[i] {
			rows[i][b].Scale = uint16(r.UintN(0x7c00) | r.UintN(2)<<15)
			for k := range rows[i][b].Quants {
				rows[i][b].Quants[k] = int8(r.UintN(256))
			}
		}
	}
	return rows
}
