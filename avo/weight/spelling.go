package weight

// Spellings of quants. Each costs the fewest shifts, selections and masks to unpack on AVX-512, which shifts words of 16 bits at the
// least: what a shift drags in from the next byte is masked out with the rest.
var (
	quants8 = Spelling{1, [][]Piece{{{0, 0, 8}}}}
	quants4 = Spelling{1, [][]Piece{{{0, 0, 4}}, {{0, 4, 4}}}}
	quants2 = Spelling{1, [][]Piece{{{0, 0, 2}}, {{0, 2, 2}}, {{0, 4, 2}}, {{0, 6, 2}}}}
	// Four values in three bytes: three lie in the low bits of one each, the fourth in their high bits.
	quants6 = Spelling{3, [][]Piece{
		{{0, 0, 6}},
		{{1, 0, 6}},
		{{2, 0, 6}},
		{{0, 6, 2}, {1, 6, 2}, {2, 6, 2}},
	}}
	// Eight values in five bytes: five in the low bits, three in the high bits.
	quants5 = Spelling{5, [][]Piece{
		{{0, 0, 5}},
		{{1, 0, 5}},
		{{2, 0, 5}},
		{{3, 0, 5}},
		{{4, 0, 5}},
		{{0, 5, 3}, {3, 5, 2}},
		{{1, 5, 3}, {4, 5, 2}},
		{{2, 5, 3}, {3, 7, 1}, {4, 7, 1}},
	}}
	// Eight values in three bytes: two in the low bits of each, two in the high bits.
	quants3 = Spelling{3, [][]Piece{
		{{0, 0, 3}},
		{{0, 3, 3}},
		{{1, 0, 3}},
		{{1, 3, 3}},
		{{2, 0, 3}},
		{{2, 3, 3}},
		{{0, 6, 2}, {2, 6, 1}},
		{{1, 6, 2}, {2, 7, 1}},
	}}
)

// whole spells each value as a word of its own.
func whole(bits int) Spelling { return Spelling{1, [][]Piece{{{0, 0, bits}}}} }

// fourBytes spells bytes in a dword.
var fourBytes = Spelling{1, [][]Piece{{{0, 0, 8}}, {{0, 8, 8}}, {{0, 16, 8}}, {{0, 24, 8}}}}

// sixes spells eight values of 6 bits in three words of 16, or twice that in the halves of three words of 32: values 2i and 2i+1 then
// have the same shift in the low and the high half, so that a word unpacks to the pair that VPMADDWD takes. Six of eight lie two
// to a word, the other two in the 4 bits that each word has left.
func sixes(halves int) Spelling {
	s := Spelling{Words: 3}
	for i := range 8 {
		for h := range halves {
			at := 16 * h
			value := []Piece{{i / 2, at + i%2*6, 6}}
			if i >= 6 {
				value = []Piece{{i - 6, at + 12, 4}, {2, at + 12 + i%2*2, 2}}
			}
			s.Values = append(s.Values, value)
		}
	}
	return s
}
