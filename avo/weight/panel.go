package weight

// PanelRows is the number of weight rows in a panel.
const PanelRows = 32

// Plane is a part of a panel block. It holds the elements of one or more fields of 32 rows, spelled in words of 1, 2 or 4 bytes.
//
// The words of fields other than quants lie as
//
//	[words][32 rows]
//
// and those of quants, which are bytes, as vectors of 64 for VPDPBUSD, the unit that a spelling's words are then counted in:
//
//	[vectors][16 rows][4 of k]
//
// Unpacked, the vectors follow each other as k = 0..3 of rows 0..15, k = 0..3 of rows 16..31, k = 4..7 of rows 0..15 ...
type Plane struct {
	Fields   []Field // their elements one after the other
	Spelling Spelling
	Width    int    // bytes of a word
	Invert   uint32 // bits that are stored inverted: the sign of two's complement, which makes q unsigned
}

// Spelling says how a run of values shares a run of words; it repeats until the plane's elements are spelled.
type Spelling struct {
	Words  int
	Values [][]Piece // each value's bits, low ones first
}

// Piece is some bits of a value: at Shift in word Word.
type Piece struct{ Word, Shift, Bits int }

// Quants reports whether the plane holds bytes of VPDPBUSD's operand, or codes that unpack to them.
func (p Plane) Quants() bool { return p.Fields[0].Role == Quants }

// Len returns the number of elements that the plane holds of a row.
func (p Plane) Len() int {
	n := 0
	for _, f := range p.Fields {
		n += f.Len()
	}
	return n
}

// Size returns the plane's bytes.
func (p Plane) Size() int {
	return p.Len() / len(p.Spelling.Values) * p.Spelling.Words * p.Width * PanelRows
}

// at returns where in the plane bit b of element e of a row lies.
func (p Plane) at(row, e, b int) int {
	i, lane, lanes := e, row, PanelRows
	if p.Quants() {
		i, lane, lanes = 2*(e/4)+row/16, 4*(row%16)+e%4, 64
	}
	n := len(p.Spelling.Values)
	for _, piece := range p.Spelling.Values[i%n] {
		if b < piece.Bits {
			word := i/n*p.Spelling.Words + piece.Word
			return 8*p.Width*(word*lanes+lane) + piece.Shift + b
		}
		b -= piece.Bits
	}
	panic("weight: bit beyond the value")
}

// Plane returns the plane that holds the field of this role, and where in a panel block it starts. It panics if none does.
func (s *Spec) Plane(role Role) (offset int, p Plane) {
	for _, p := range s.Planes {
		for _, f := range p.Fields {
			if f.Role == role {
				return offset, p
			}
		}
		offset += p.Size()
	}
	panic("weight: " + s.Name + " has no " + string(role))
}

// Field returns the field of this role, and whether there is one.
func (s *Spec) Field(role Role) (Field, bool) {
	for _, p := range s.Planes {
		for _, f := range p.Fields {
			if f.Role == role {
				return f, true
			}
		}
	}
	return Field{}, false
}

// PanelBytes returns the size of a panel block: that of 32 GGUF blocks.
func (s *Spec) PanelBytes() int { return PanelRows * s.Bytes }

// Move is one bit's way from GGUF blocks to a panel block: bit From of row Row's block becomes bit To.
type Move struct {
	Row, From, To int
	Invert        bool
}

// Moves calls f for every bit of a panel block.
func (s *Spec) Moves(f func(Move)) {
	base := 0
	for _, p := range s.Planes {
		e0 := 0
		for _, field := range p.Fields {
			for row := range PanelRows {
				for e := range field.Len() {
					for b := range field.Bits() {
						f(Move{row, field.At(e, b), base + p.at(row, e0+e, b), p.Invert>>b&1 != 0})
					}
				}
			}
			e0 += field.Len()
		}
		base += 8 * p.Size()
	}
}

// Pack packs rows, each of the same number of GGUF blocks, into panels: along k, block after block. Rows that the last panel
// lacks are packed as rows of zero bytes.
func (s *Spec) Pack(rows [][]byte) []byte {
	blocks := len(rows[0]) / s.Bytes
	packed := make([]byte, (len(rows)+PanelRows-1)/PanelRows*blocks*s.PanelBytes())
	s.Moves(func(m Move) {
		for at := 0; at < len(packed); at += s.PanelBytes() {
			panel, b := at/s.PanelBytes()/blocks, at/s.PanelBytes()%blocks
			var bit byte
			if row := panel*PanelRows + m.Row; row < len(rows) {
				bit = rows[row][b*s.Bytes+m.From/8] >> (m.From % 8) & 1
			}
			if m.Invert {
				bit ^= 1
			}
			packed[at+m.To/8] |= bit << (m.To % 8)
		}
	})
	return packed
}

// Unpack returns the first n rows of packed panels, of the given number of blocks each, as they were given to Pack.
func (s *Spec) Unpack(packed []byte, n, blocks int) [][]byte {
	rows := make([][]byte, n)
	for r := range rows {
		rows[r] = make([]byte, blocks*s.Bytes)
	}
	s.Moves(func(m Move) {
		for r := m.Row; r < n; r += PanelRows {
			for b := range blocks {
				bit := packed[(r/PanelRows*blocks+b)*s.PanelBytes()+m.To/8] >> (m.To % 8) & 1
				if m.Invert {
					bit ^= 1
				}
				rows[r][b*s.Bytes+m.From/8] |= bit << (m.From % 8)
			}
		}
	})
	return rows
}
