package bpe

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
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
	tok := alphabet()
	for _, pair := range []string{"bc", "ab", "aa"} {
		tok.merge([2]int32{firstByte + int32(pair[0]), firstByte + int32(pair[1])})
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
	values := values(Train(strings.Repeat(" go\n\n", 3), 300).Metadata())
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

func values(metadata []gguf.KV) map[string]any {
	m := map[string]any{}
	for _, kv := range metadata {
		m[kv.Key] = kv.Value
	}
	return m
}

// file is a GGUF file with metadata and no tensors.
func file(t *testing.T, metadata []gguf.KV) *gguf.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vocabulary.gguf")
	if err := gguf.Write(t.Context(), path, metadata, nil, nil); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestRead(t *testing.T) {
	want := Train(strings.Repeat("it is what it is\n", 3), 265)
	got, err := Read(file(t, want.Metadata()))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v %v, want %v", got, err, want)
	}
}

// TestReadOthers gives tokenizers of another making.
func TestReadOthers(t *testing.T) {
	for name, edit := range map[string]func(map[string]any){
		"no tokens":        func(m map[string]any) { delete(m, "tokenizer.ggml.tokens") },
		"no merges":        func(m map[string]any) { delete(m, "tokenizer.ggml.merges") },
		"a merge too few":  func(m map[string]any) { m["tokenizer.ggml.merges"] = m["tokenizer.ggml.merges"].([]string)[1:] },
		"an unknown merge": func(m map[string]any) { m["tokenizer.ggml.merges"].([]string)[0] = "no such" },
		"no space in it":   func(m map[string]any) { m["tokenizer.ggml.merges"].([]string)[0] = "it" },
		"a token too many": func(m map[string]any) {
			m["tokenizer.ggml.tokens"] = append(m["tokenizer.ggml.tokens"].([]string), "more")
		},
		"another end":        func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[End] = "</s>" },
		"bytes not in order": func(m map[string]any) { m["tokenizer.ggml.tokens"].([]string)[firstByte] = "x" },
	} {
		t.Run(name, func(t *testing.T) {
			m := values(Train(strings.Repeat("it is what it is\n", 3), 265).Metadata())
			edit(m)
			var metadata []gguf.KV
			for key, value := range m {
				metadata = append(metadata, gguf.KV{Key: key, Value: value})
			}
			if _, err := Read(file(t, metadata)); err == nil || !strings.Contains(err.Error(), "vocabulary.gguf") {
				t.Errorf("%v", err)
			}
		})
	}
}
