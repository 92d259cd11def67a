package gate

import (
	"fmt"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

// Shape is the arithmetic that a model's weight matrices cost: every weight is multiplied and added once a token, which counts
// as two operations. Attention, norms and the like are not in it.
type Shape struct {
	perToken  float64 // weights that every token of a prompt meets
	perPrompt float64 // weights that only the last token of a prompt meets
}

// ReadShape reads the shape of the model at path.
func ReadShape(path string) (Shape, error) {
	f, err := gguf.Open(path)
	if err != nil {
		return Shape{}, err
	}
	defer f.Close()
	arch, err := gguf.Get[string](f, "general.architecture")
	if err != nil {
		return Shape{}, err
	}
	layers, err := gguf.Get[uint32](f, arch+".block_count")
	if err != nil {
		return Shape{}, err
	}
	expertShare := 1.0
	if experts, ok := f.Value(arch + ".expert_count").(uint32); ok && experts > 0 {
		used, err := gguf.Get[uint32](f, arch+".expert_used_count")
		if err != nil {
			return Shape{}, err
		}
		expertShare = float64(used) / float64(experts)
	}
	lastFFN := fmt.Sprintf("blk.%d.ffn_", layers-1)
	var s Shape
	var embedding, output float64
	for _, t := range f.Tensors {
		if len(t.Shape) < 2 || !strings.HasSuffix(t.Name, ".weight") {
			continue
		}
		weights := float64(t.Shape[0]) * float64(t.Rows())
		switch {
		case t.Name == "token_embd.weight":
			embedding = weights
		case t.Name == "output.weight":
			output = weights
		case !strings.HasPrefix(t.Name, "blk."):
			// Tables that are looked up.
		default:
			if strings.Contains(t.Name, "_exps.") {
				weights *= expertShare
			}
			// llama.cpp drops the tokens whose logits nobody asked for before the last layer's feed-forward part.
			if strings.HasPrefix(t.Name, lastFFN) {
				s.perPrompt += weights
			} else {
				s.perToken += weights
			}
		}
	}
	if output == 0 {
		output = embedding // tied
	}
	s.perPrompt += output
	if s.perToken == 0 {
		return Shape{}, fmt.Errorf("%s has no weight matrices in blocks", path)
	}
	return s, nil
}

// Ops is the operations of a prompt of n tokens of which only the last one's logits are wanted, as llama-bench runs it.
func (s Shape) Ops(n int) float64 { return 2 * (s.perToken*float64(n) + s.perPrompt) }
