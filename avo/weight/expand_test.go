package weight

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestExpand finds every weight of a panel again in the panel that it expands to.
func TestExpand(t *testing.T) {
	r, expanded := rand.New(rand.NewPCG(8, 8)), 0
	each(t, func(t *testing.T, s *Spec) {
		to := s.Wide
		if to == nil {
			if !s.Readable() {
				t.Fatal("neither read as it is nor expanded")
			}
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
				want, got := s.at(rows[i], k), to.at(row, k)
				if to.Sub > s.Sub {
					want.Q, want.S = want.S*want.Q, 1
				}
				if got != want {
					t.Fatalf("row %d, weight %d: %+v, want %+v", i, k, got, want)
				}
			}
		}
	})
	if expanded != 9 {
		t.Errorf("%d types are expanded, want the 7 of grids, TQ1_0 and Q2_K", expanded)
	}
}

// TestWides holds the panels that kernels read to their documented layout.
func TestWides(t *testing.T) {
	for _, c := range []struct {
		name   string
		flip   byte  // of quants
		widths []int // of words behind them
	}{
		{"X8_16", 0x80, append(slices.Repeat([]int{1}, 16), 4)},
		{"X8_32", 0x80, append(slices.Repeat([]int{1}, 8), 4)},
		{"X8_256", 0x80, []int{4}},
		{"X8_MINS16", 0, slices.Repeat([]int{4}, 8+2)},
	} {
		i := slices.IndexFunc(Wides(), func(s *Spec) bool { return s.Name == c.name })
		if i < 0 {
			t.Fatal("there is no " + c.name)
		}
		s := Wides()[i]
		rows := make([][]byte, PanelRows)
		for i := range rows {
			rows[i] = make([]byte, s.Bytes)
			for k := range rows[i] {
				rows[i][k] = byte(7*i + 13*k + k>>5)
			}
		}
		var want bytes.Buffer
		for j := range 64 {
			for _, row := range rows {
				for _, q := range row[4*j:][:4] {
					want.WriteByte(q ^ c.flip)
				}
			}
		}
		at := 256
		for _, width := range c.widths {
			for _, row := range rows {
				want.Write(row[at:][:width])
			}
			at += width
		}
		if at != s.Bytes || !bytes.Equal(s.Pack(rows), want.Bytes()) {
			t.Errorf("%s is laid out otherwise", s.Name)
		}
	}
}
