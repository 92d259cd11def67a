package bpe

import (
	"slices"
	"strings"
	"testing"
)

// TestWords splits as the expression of GPT-2 does.
func TestWords(t *testing.T) {
	for text, want := range map[string][]string{
		"it's we'll they'd 'x": {"it", "'s", " we", "'ll", " they", "'d", " '", "x"},
		"a1 22b  c":            {"a", "1", " 22", "b", " ", " c"},
		"x\n\n  y \n":          {"x", "\n\n ", " y", " \n"},
		"f(x); // é ü7":        {"f", "(", "x", ");", " //", " é", " ü", "7"},
		"tab\tz\t\tz":          {"tab", "\t", "z", "\t", "\t", "z"},
		"  ":                   {"  "},
		"no\u00a0break":        {"no", "\u00a0", "break"},
		"\xff\xfe bad":         {"\xff\xfe", " bad"},
	} {
		var got []string
		for rest := text; rest != ""; {
			n := firstWord(rest)
			got, rest = append(got, rest[:n]), rest[n:]
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q splits into %q, want %q", text, got, want)
		}
	}
}

// TestTrain follows merges that can be counted by hand: "ab" occurs 5 times, then "abc" 3 times, then "de" twice, and no pair is left.
func TestTrain(t *testing.T) {
	tok := Train("ab abc\tabc\nabc'ab de_de", 1000)
	var made []string
	for _, pair := range tok.merges {
		made = append(made, tok.tokens[pair[0]]+"+"+tok.tokens[pair[1]])
	}
	if want := []string{"a+b", "ab+c", "d+e"}; !slices.Equal(made, want) {
		t.Errorf("merges %q, want %q", made, want)
	}
	if tok.Size() != 257+3 {
		t.Errorf("%d tokens", tok.Size())
	}
	if got, want := tok.Encode("abcab"), []int32{258, 257}; !slices.Equal(got, want) {
		t.Errorf("abcab encodes to %v, want %v", got, want)
	}
}

// TestSize trains on enough text to reach a size, which must stop it.
func TestSize(t *testing.T) {
	text := strings.Repeat("the cat sat on the mat with another cat; ", 3)
	tok := Train(text, 270)
	if tok.Size() != 270 {
		t.Errorf("%d tokens, want 270", tok.Size())
	}
	seen := map[string]bool{}
	for _, s := range tok.tokens {
		if seen[s] {
			t.Errorf("two tokens stand for %q", s)
		}
		seen[s] = true
	}
}

// TestFirstMergeWins overlaps merges: the one that was learnt first is done first, and the leftmost of equals.
func TestFirstMergeWins(t *testing.T) {
	tok := &Tokenizer{tokens: Train("", firstMade).tokens, rank: map[[2]int32]int{}}
	for i, pair := range [][2]int32{{'b', 'c'}, {'a', 'b'}, {'a', 'a'}} {
		pair[0] += firstByte
		pair[1] += firstByte
		tok.tokens = append(tok.tokens, tok.tokens[pair[0]]+tok.tokens[pair[1]])
		tok.rank[pair] = i
		tok.merges = append(tok.merges, pair)
	}
	for text, want := range map[string][]string{"abc": {"a", "bc"}, "aab": {"a", "ab"}, "aaac": {"aa", "a", "c"}} {
		var got []string
		for _, id := range tok.Encode(text) {
			got = append(got, tok.tokens[id])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s encodes to %q, want %q", text, got, want)
		}
	}
}

func FuzzRoundTrip(f *testing.F) {
	tok := Train(strings.Repeat("llama.cpp reads GGUF; it's the format. \n\n  ```\n", 3), 300)
	for _, s := range []string{"", "llama", "it's", " \n\t x", "\xff\x00\xc3(", "日本語 ok"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tokens := tok.Encode(s)
		if got := tok.Decode(tokens); got != s {
			t.Errorf("%q comes back as %q", s, got)
		}
		if slices.Contains(tokens, End) {
			t.Errorf("%q holds the end token", s)
		}
	})
}

// TestMetadata checks the spelling that llama.cpp expects: a space is Ġ, a newline Ċ, and every byte has a token of its own.
func TestMetadata(t *testing.T) {
	values := map[string]any{}
	for _, kv := range Train(strings.Repeat(" go\n\n", 3), 300).Metadata() {
		values[kv.Key] = kv.Value
	}
	tokens := values["tokenizer.ggml.tokens"].([]string)
	types := values["tokenizer.ggml.token_type"].([]int32)
	merges := values["tokenizer.ggml.merges"].([]string)
	if len(types) != len(tokens) || tokens[End] != "<|end|>" || types[End] != control || types[1] != normal {
		t.Errorf("%d types, token 0 %q of type %d", len(types), tokens[End], types[End])
	}
	if tokens[1] != "Ā" || tokens[1+'A'] != "A" || tokens[1+' '] != "Ġ" || tokens[1+'\n'] != "Ċ" || tokens[1+0xad] != "Ń" || tokens[1+0xff] != "ÿ" {
		t.Errorf("bytes are spelled %q", tokens[:257])
	}
	if !slices.Contains(tokens, "Ġgo") || !slices.Contains(merges, "Ġg o") || !slices.Contains(merges, "Ċ Ċ") {
		t.Errorf("tokens %q, merges %q", tokens[257:], merges)
	}
	for i, s := range tokens {
		if slices.Index(tokens, s) != i {
			t.Errorf("two tokens are spelled %q", s)
		}
	}
}
