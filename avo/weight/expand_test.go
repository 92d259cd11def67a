package weight

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// TestExpand finds every weight of a panel again in the panel that it expands to.
func TestExpand(t *testing.T) {
	r, expanded := rand.New(rand.NewPCG(8, 8)), 0
	each(t, func(t *testing.T, s *Spec) {
		to := s.Wide()
		if to == nil {
			t.Skip("read as it is")
		}
		expanded++
		const n = 2 // blocks
		var rows [][]byte
		for range PanelRows {
			rows = append(rows, s.random(r, n*s.Block))
		}
		for i, row := range to.Unpack(s.Expand(s.Pack(rows)), PanelRows, n) {
			for k := range n * s.Block {
				if want, got := s.at(rows[i], k), to.at(row, k); got != want {
					t.Fatalf("row %d, weight %d: %+v, want %+v", i, k, got, want)
				}
			}
		}
	})
	if expanded != 8 {
		t.Errorf("%d types are expanded, want the 7 of grids and TQ1_0", expanded)
	}
}

// TestWides holds the panels that kernels read to their documented layout.
func TestWides(t *testing.T) {
	for _, s := range Wides() {
		rows := make([][]byte, PanelRows)
		scales := s.Bytes - 260
		var want bytes.Buffer
		for i := range rows {
			rows[i] = make([]byte, s.Bytes)
			for k := range rows[i] {
				rows[i][k] = byte(7*i + 13*k + k>>5)
			}
		}
		for j := range 64 {
			for _, row := range rows {
				for _, q := range row[4*j:][:4] {
					want.WriteByte(q ^ 0x80)
				}
			}
		}
		for sub := range scales {
			for _, row := range rows {
				want.WriteByte(row[256+sub])
			}
		}
		for _, row := range rows {
			want.Write(row[256+scales:])
		}
		if !bytes.Equal(s.Pack(rows), want.Bytes()) {
			t.Errorf("%s is laid out otherwise", s.Name)
		}
		if s.Sub < 256 && scales != 256/s.Sub || s.Sub == 256 && scales != 0 {
			t.Errorf("%s has %d sub-scales", s.Name, scales)
		}
	}
}
