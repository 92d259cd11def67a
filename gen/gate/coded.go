package gate

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// codedTensor is what the tuned build says of a float tensor that it coded, with ZT_LOG=1:
//
//	zen5: blk.0.ffn_up.weight: coded BF16 2048 x 8192: 12.06 bits a weight (B12 512 panels), expected gain 1.33x
type codedTensor struct {
	Name    string
	Weights int64
	Bits    float64 // of a weight, with its share of everything that is read with it
	Codes   string  // and how many panels have each
	Gain    float64 // expected of its products of single rows, over the plain tensor's
}

var codedLine = regexp.MustCompile(`^zen5: (\S+): coded \S+ (\d+(?: x \d+)*): ([0-9.]+) bits a weight \(([^)]*)\), expected gain ([0-9.]+)x$`)

// readCoded finds such lines in what a program said on stderr.
func readCoded(stderr []byte) (list []codedTensor, err error) {
	number := func(text string) float64 {
		x, perr := strconv.ParseFloat(text, 64)
		if perr != nil && err == nil {
			err = fmt.Errorf("%q in what the tuned build says of coded tensors: %w", text, perr)
		}
		return x
	}
	for line := range strings.Lines(string(stderr)) {
		m := codedLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			continue
		}
		t := codedTensor{Name: m[1], Weights: 1, Bits: number(m[3]), Codes: m[4], Gain: number(m[5])}
		for d := range strings.SplitSeq(m[2], " x ") {
			t.Weights *= int64(number(d))
		}
		list = append(list, t)
	}
	return list, err
}

// kind is a tensor's name without its layer: attn_q of blk.3.attn_q.weight.
func kind(name string) string {
	name = strings.TrimSuffix(name, ".weight")
	if rest, ok := strings.CutPrefix(name, "blk."); ok {
		if _, part, ok := strings.Cut(rest, "."); ok {
			return part
		}
	}
	return name
}

// codedKind sums up the coded tensors of a kind.
type codedKind struct {
	Name       string
	Tensors    int
	Bits, Gain float64 // means over weights
	Codes      string  // with panels of all tensors
}

// codedKinds sums tensors up by kind, in the order in which kinds first come.
func codedKinds(list []codedTensor) (kinds []codedKind) {
	weights := map[string]float64{}
	panels := map[string][]panelCount{}
	for _, t := range list {
		name := kind(t.Name)
		i := slices.IndexFunc(kinds, func(k codedKind) bool { return k.Name == name })
		if i < 0 {
			i = len(kinds)
			kinds = append(kinds, codedKind{Name: name})
		}
		k := &kinds[i]
		k.Tensors++
		share := float64(t.Weights) / (weights[name] + float64(t.Weights))
		k.Bits += (t.Bits - k.Bits) * share
		k.Gain += (t.Gain - k.Gain) * share
		weights[name] += float64(t.Weights)
		panels[name] = addPanels(panels[name], t.Codes)
	}
	for i, k := range kinds {
		var said []string
		for _, p := range panels[k.Name] {
			said = append(said, fmt.Sprintf("%s %d panels", p.code, p.n))
		}
		kinds[i].Codes = strings.Join(said, ", ")
	}
	return kinds
}

// panelCount is how many panels have a code.
type panelCount struct {
	code string
	n    int
}

// addPanels adds the panels of "B12 512 panels, B16 3 panels" to list. What it cannot read is not a number of panels and left out.
func addPanels(list []panelCount, codes string) []panelCount {
	for item := range strings.SplitSeq(codes, ", ") {
		var p panelCount
		if _, err := fmt.Sscanf(item, "%s %d", &p.code, &p.n); err != nil {
			continue
		}
		if i := slices.IndexFunc(list, func(q panelCount) bool { return q.code == p.code }); i >= 0 {
			list[i].n += p.n
		} else {
			list = append(list, p)
		}
	}
	return list
}

// meanBits is the bits of a weight over all of list, 0 for none.
func meanBits(list []codedTensor) float64 {
	var bits, weights float64
	for _, t := range list {
		bits += t.Bits * float64(t.Weights)
		weights += float64(t.Weights)
	}
	if weights == 0 {
		return 0
	}
	return bits / weights
}

// savedBytes is how many bytes fewer a generated token reads of the model at path because of what is coded: of experts those it uses, of a
// table that is only looked up none.
func savedBytes(path string, coded []codedTensor) (float64, error) {
	if len(coded) == 0 {
		return 0, nil
	}
	f, err := gguf.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	used := 1.0
	arch, _ := f.Value("general.architecture").(string)
	if experts, ok := f.Value(arch + ".expert_count").(uint32); ok && experts > 0 {
		n, err := gguf.Get[uint32](f, arch+".expert_used_count")
		if err != nil {
			return 0, err
		}
		used = float64(n) / float64(experts)
	}
	_, noOutput := f.Tensor("output.weight")
	saved := 0.0
	for _, t := range coded {
		plain, err := f.Tensor(t.Name)
		if err != nil {
			return 0, err
		}
		bytes := float64(plain.Size) - t.Bits/8*float64(t.Weights)
		switch {
		case t.Name == "token_embd.weight" && noOutput == nil:
			bytes = 0
		case strings.Contains(t.Name, "_exps."):
			bytes *= used
		}
		saved += bytes
	}
	return saved, nil
}

// toCode returns the names of the matrices of the model at path that the tuned build must code: of BF16 and F16 all whose rows are whole 64
// weights long and 16 or more, of F32 those of which every weight is a BF16, and none which that would save less than a twentieth.
// What is only looked up, and not multiplied, may be left alone.
func toCode(path string) ([]string, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tied := !slices.ContainsFunc(f.Tensors, func(t gguf.Tensor) bool { return t.Name == "output.weight" })
	var names []string
	for _, t := range f.Tensors {
		if len(t.Shape) < 2 || t.Shape[0]%64 != 0 || t.Shape[1] < 16 || t.Name == "token_embd.weight" && !tied {
			continue
		}
		plain, coded, head := 16.0, 12.0, 64.0
		switch t.Type {
		case gguf.BF16:
		case gguf.F16:
			coded, head = 14, 128
		case gguf.F32:
			plain = 32
			narrow, err := isBF16(f.Data(t))
			if err != nil {
				return nil, fmt.Errorf("%s: %s: %w", path, t.Name, err)
			}
			if !narrow {
				continue
			}
		default:
			continue
		}
		// Blocks are of 128 weights of a row, padded, and four rows have a head of so many bytes if there are few escapes.
		cols := float64(t.Shape[0])
		if coded*math.Ceil(cols/128)*128/cols+8*head/(4*cols) < 0.95*plain {
			names = append(names, t.Name)
		}
	}
	return names, nil
}

// isBF16 says whether every F32 of r has no bits below those of a BF16.
func isBF16(r io.Reader) (bool, error) {
	b := bufio.NewReaderSize(r, 1<<20)
	word := make([]byte, 4)
	for {
		switch _, err := io.ReadFull(b, word); err {
		case nil:
		case io.EOF:
			return true, nil
		default:
			return false, err
		}
		if !bytes.Equal(word[:2], []byte{0, 0}) {
			return false, nil
		}
	}
}
