// Package bpe is a byte-level byte-pair tokenizer, trained from text and read by llama.cpp as tokenizer model "gpt2" with the
// pre-tokenizer "gpt-2": words are split off first, and merges join tokens within a word only.
package bpe

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// End is the token that begins and ends every document. No text encodes to it.
const End = 0

// The bytes follow in order, so that every text has an encoding, and then the tokens that merges make, in the order they were learnt.
const (
	firstByte = 1
	firstMade = firstByte + 256
)

// endText is how a GGUF file spells End.
const endText = "<|end|>"

// Tokenizer turns text into tokens and back.
type Tokenizer struct {
	tokens []string // what each token stands for; "" for End
	merges [][2]int32
	rank   map[[2]int32]int // index into merges
}

// Train returns a tokenizer with size tokens, at least 257, made from text: starting from bytes, the pair of tokens that is most frequent
// within the words of text becomes a new token, the pair of lowest tokens among equals. There are fewer tokens if no pair occurs twice.
func Train(text string, size int) *Tokenizer {
	t := alphabet()
	if size < firstMade {
		panic(fmt.Sprintf("bpe: %d tokens do not hold all bytes", size))
	}
	type word struct {
		tokens []int32
		count  int
	}
	var words []word
	index := map[string]int{}
	for rest := text; rest != ""; {
		w := rest[:firstWord(rest)]
		rest = rest[len(w):]
		i, ok := index[w]
		if !ok {
			i = len(words)
			index[w] = i
			words = append(words, word{tokens: bytesOf(w)})
		}
		words[i].count++
	}
	counts := make([]int32, size*size)
	for len(t.tokens) < size {
		clear(counts)
		for _, w := range words {
			for i := range len(w.tokens) - 1 {
				counts[int(w.tokens[i])*size+int(w.tokens[i+1])] += int32(w.count)
			}
		}
		best := 0
		for i, n := range counts {
			if n > counts[best] {
				best = i
			}
		}
		if counts[best] < 2 {
			break
		}
		pair := [2]int32{int32(best / size), int32(best % size)}
		id := int32(len(t.tokens))
		t.merge(pair)
		for i := range words {
			words[i].tokens = join(words[i].tokens, pair, id)
		}
	}
	return t
}

// alphabet returns a tokenizer without merges.
func alphabet() *Tokenizer {
	t := &Tokenizer{tokens: []string{""}, rank: map[[2]int32]int{}}
	for b := range 256 {
		t.tokens = append(t.tokens, string([]byte{byte(b)}))
	}
	return t
}

// merge adds the token that pair makes.
func (t *Tokenizer) merge(pair [2]int32) {
	t.tokens = append(t.tokens, t.tokens[pair[0]]+t.tokens[pair[1]])
	t.rank[pair] = len(t.merges)
	t.merges = append(t.merges, pair)
}

// join replaces each pair by id, in place, from the left.
func join(tokens []int32, pair [2]int32, id int32) []int32 {
	out := tokens[:0]
	for i := 0; i < len(tokens); i++ {
		if i+1 < len(tokens) && tokens[i] == pair[0] && tokens[i+1] == pair[1] {
			out = append(out, id)
			i++
		} else {
			out = append(out, tokens[i])
		}
	}
	return out
}

func bytesOf(s string) []int32 {
	tokens := make([]int32, len(s))
	for i := range len(s) {
		tokens[i] = firstByte + int32(s[i])
	}
	return tokens
}

// Size returns the number of tokens.
func (t *Tokenizer) Size() int { return len(t.tokens) }

// Encode returns the tokens of text, the same that llama.cpp finds.
func (t *Tokenizer) Encode(text string) []int32 {
	var out []int32
	known := map[string][]int32{}
	for text != "" {
		w := text[:firstWord(text)]
		text = text[len(w):]
		tokens, ok := known[w]
		if !ok {
			tokens = t.encodeWord(w)
			known[w] = tokens
		}
		out = append(out, tokens...)
	}
	return out
}

// encodeWord joins the pair whose merge was learnt first, the leftmost among equals, until no pair has a merge.
func (t *Tokenizer) encodeWord(w string) []int32 {
	tokens := bytesOf(w)
	for {
		at, lowest := -1, len(t.merges)
		for i := range len(tokens) - 1 {
			if rank, ok := t.rank[[2]int32{tokens[i], tokens[i+1]}]; ok && rank < lowest {
				at, lowest = i, rank
			}
		}
		if at < 0 {
			return tokens
		}
		tokens[at] = int32(firstMade + lowest)
		tokens = append(tokens[:at+1], tokens[at+2:]...)
	}
}

// Decode returns the text of tokens.
func (t *Tokenizer) Decode(tokens []int32) string {
	var b strings.Builder
	for _, id := range tokens {
		b.WriteString(t.tokens[id])
	}
	return b.String()
}

// firstWord returns the length in bytes of the first word of text, which is not empty. Words are what this expression matches:
//
//	's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func firstWord(text string) int {
	for _, s := range []string{"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"} {
		if strings.HasPrefix(text, s) {
			return len(s)
		}
	}
	start := 0
	if text[0] == ' ' {
		start = 1
	}
	for _, class := range []func(rune) bool{unicode.IsLetter, unicode.IsNumber, isOther} {
		if n := span(text[start:], class); n > 0 {
			return start + n
		}
	}
	n := span(text, unicode.IsSpace)
	if n < len(text) {
		// The last space of several before a word belongs to that word.
		if _, last := utf8.DecodeLastRuneInString(text[:n]); last < n {
			return n - last
		}
	}
	return n
}

func isOther(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsSpace(r) }

// span returns the length in bytes of the runes of class that text begins with.
func span(text string, class func(rune) bool) int {
	if n := strings.IndexFunc(text, func(r rune) bool { return !class(r) }); n >= 0 {
		return n
	}
	return len(text)
}

// Token types of llama.cpp (enum llama_token_type).
const (
	normal  int32 = 1
	control int32 = 3
)

// Metadata returns the tokenizer as the metadata of a GGUF file.
func (t *Tokenizer) Metadata() []gguf.KV {
	tokens, types := make([]string, len(t.tokens)), make([]int32, len(t.tokens))
	for i, s := range t.tokens {
		tokens[i], types[i] = printable(s), normal
	}
	tokens[End], types[End] = endText, control
	merges := make([]string, len(t.merges))
	for i, pair := range t.merges {
		merges[i] = tokens[pair[0]] + " " + tokens[pair[1]]
	}
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "gpt2"},
		{Key: "tokenizer.ggml.pre", Value: "gpt-2"},
		{Key: "tokenizer.ggml.tokens", Value: tokens},
		{Key: "tokenizer.ggml.token_type", Value: types},
		{Key: "tokenizer.ggml.merges", Value: merges},
		{Key: "tokenizer.ggml.bos_token_id", Value: uint32(End)},
		{Key: "tokenizer.ggml.eos_token_id", Value: uint32(End)},
		{Key: "tokenizer.ggml.add_bos_token", Value: true},
	}
}

// printable spells bytes as GPT-2's vocabulary does: printable Latin-1 as itself, and the other bytes, in order, from U+0100 on.
func printable(s string) string {
	var b strings.Builder
	for i := range len(s) {
		b.WriteRune(spelling[s[i]])
	}
	return b.String()
}

var spelling = func() (table [256]rune) {
	next := rune(0x100)
	for b := range rune(256) {
		if b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae {
			table[b] = b
		} else {
			table[b] = next
			next++
		}
	}
	return table
}()

// Read returns the tokenizer of a file that holds the Metadata of one.
func Read(f *gguf.File) (*Tokenizer, error) {
	tokens, err := gguf.Get[[]string](f, "tokenizer.ggml.tokens")
	if err != nil {
		return nil, err
	}
	merges, err := gguf.Get[[]string](f, "tokenizer.ggml.merges")
	if err != nil {
		return nil, err
	}
	ids := map[string]int32{}
	for i, s := range tokens {
		ids[s] = int32(i)
	}
	t := alphabet()
	for i, merge := range merges {
		first, second, _ := strings.Cut(merge, " ")
		a, aFound := ids[first]
		b, bFound := ids[second]
		if !aFound || !bFound || ids[first+second] != int32(firstMade+i) || max(a, b) >= int32(firstMade+i) {
			return nil, fmt.Errorf("%s: merge %q does not make token %d; this is not a tokenizer made here", f.Name, merge, firstMade+i)
		}
		t.merge([2]int32{a, b})
	}
	if len(tokens) != len(t.tokens) || tokens[End] != endText || tokens[firstByte] != printable("\x00") {
		return nil, fmt.Errorf("%s: %d tokens are not the bytes and what %d merges make; this is not a tokenizer made here", f.Name, len(tokens), len(merges))
	}
	return t, nil
}
