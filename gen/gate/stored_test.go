package gate

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/gguf"
)

func TestStoredGates(t *testing.T) {
	path := writeFloats(t, gguf.BF16)
	for _, c := range []struct {
		stock, tuned string
		want         string // in the error; "" if all gates hold
	}{
		{"reads no stored model", "", ""},
		{"reads no stored model", "nothing becomes smaller", ""},
		{"reads no stored model", "nothing becomes smaller, leaves a file", "model llama-zen-pack files left by what was refused is 1"},
		{"reads no stored model", "loses a byte", "model llama-zen-pack -d GGUFs that come back otherwise is 1"},
		{"reads no stored model", "ulp when stored", "model prefill 33, -lm auto differing logits is 1,"},
		{"reads no stored model", "codes nothing", "model decode 12, -lm auto matrices that are not coded is 4"},
		{"reads no stored model", "codes though off", "model prefill 33, ZT_CODE=off coded matrices is 4"},
		{"reads no stored model", "misses a flip", "model --flips changes of a byte that go unnoticed is 1"},
		{"reads no stored model", "few flips", "model --flips changes of a byte is 3"},
		{"reads no stored model", "silent about flips", "says nothing"},
		{"reads no stored model", "verifies nothing", "files accepted that must be refused is 15"}, // 14 loads with zt-probe, one with llama-server
		{"reads no stored model", "unclear", "model refusals refusals that do not say why is 24"},
		{"reads no stored model", "leaves a file", "model refusals files left by what was refused is 1"},
		{"", "", "model refusals files accepted that must be refused is 1"},
		{"reads no stored model", "crash in llama-zen-pack", "out of cheese"},
		{"crash in logits", "", "out of cheese"},
	} {
		t.Run(c.stock+"/"+c.tuned, func(t *testing.T) {
			t.Parallel()
			_, dir, err := verify(t, c.stock, c.tuned, Model{Name: "model", Path: path, Stored: true}, Options{AccuracyOnly: true, Threads: 2})
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if leftovers, _ := filepath.Glob(filepath.Join(dir, "scratch*")); leftovers != nil {
				t.Errorf("left %v", leftovers)
			}
		})
	}
}

// storeFake makes a stored model of a GGUF, with sections where those of a real one are: the GGUF is its metadata, and a sum its tensors.
func storeFake(gguf []byte) []byte {
	var b bytes.Buffer
	section := func(content []byte) {
		b.Write(content)
		b.Write(make([]byte, (64-b.Len()%64)%64))
	}
	p := storedPreface{Magic: [4]byte{'Z', 'T', 'P', 'K'}, Version: 1, Tensors: 1, Original: uint64(len(gguf)), Before: uint64(len(gguf)), Gaps: 1}
	p.Size = 256 + uint64(len(gguf)+63)&^63 + 3*64
	if err := binary.Write(&b, binary.LittleEndian, p); err != nil {
		panic(err)
	}
	section(gguf)
	section([]byte{0})
	section(make([]byte, 32))
	sum := sha256.Sum256(b.Bytes())
	section(append(sum[:], sum[:]...))
	return b.Bytes()
}

// openFake returns the GGUF in a stored model.
func openFake(path string, model []byte) ([]byte, error) {
	if len(model) < 256 {
		return nil, fmt.Errorf("%s is cut off", path)
	}
	var p storedPreface
	if err := binary.Read(bytes.NewReader(model), binary.LittleEndian, &p); err != nil {
		return nil, err
	}
	if whole := storeFake(model[256 : 256+min(p.Before, uint64(len(model)-256))]); len(model) < len(whole) && bytes.HasPrefix(whole, model[:200]) {
		return nil, fmt.Errorf("%s is cut off", path)
	} else if !bytes.Equal(whole, model) {
		return nil, fmt.Errorf("%s is damaged", path)
	}
	return model[256 : 256+p.Before], nil
}

// fakeReads does for programs that read a model what is to be done about one that is stored or damaged: it is replaced by its GGUF, or
// refused. Models are looked at only where the stored part has them.
func fakeReads(program string, args []string, fault string) ([]string, error) {
	for i, path := range args {
		if filepath.Base(filepath.Dir(path)) != "stored" || i > 0 && (args[i-1] == "-o") {
			continue
		}
		model, err := os.ReadFile(path)
		if err != nil {
			continue // it is to be written
		}
		isGGUF, isStored := bytes.HasPrefix(model, []byte("GGUF")), bytes.HasPrefix(model, []byte("ZTPK"))
		switch {
		case isGGUF:
		case !isStored || fault == "reads no stored model":
			err = errors.New("invalid magic")
		case program != "zt-probe" && program != "llama-server":
			err = errors.New("restore it with llama-zen-pack -d")
		default:
			var plain []byte
			if plain, err = openFake(path, model); err == nil {
				args = slices.Clone(args)
				args[i] = filepath.Join(filepath.Dir(path), "plain.gguf")
				if err := os.WriteFile(args[i], plain, 0o644); err != nil {
					return nil, err
				}
			}
		}
		if err != nil && fault == "verifies nothing" && (program == "zt-probe" || program == "llama-server") {
			err = nil
		}
		if err != nil && fault == "unclear" {
			err = errors.New("something is wrong")
		}
		return args, err
	}
	return args, nil
}

// fakePack is llama-zen-pack.
func fakePack(args []string, fault string) error {
	var names, options []string
	for i, a := range args {
		if strings.HasPrefix(a, "-") {
			options = append(options, a)
		} else if i == 0 || args[i-1] != "--flips" {
			names = append(names, a)
		}
	}
	refuse := func(text string) error {
		if strings.Contains(fault, "leaves a file") {
			if err := os.WriteFile(names[1]+".x", nil, 0o644); err != nil {
				return err
			}
		}
		if fault == "unclear" {
			text = "something is wrong"
		}
		return errors.New(text)
	}
	if len(names) == 2 && names[0] == names[1] {
		return refuse(names[1] + " is the input itself")
	}
	if len(names) == 2 && !slices.Contains(options, "-f") {
		if _, err := os.Stat(names[1]); err == nil {
			return errors.New(map[bool]string{true: "something is wrong", false: names[1] + " is there already"}[fault == "unclear"])
		}
	}
	from, err := os.ReadFile(names[0])
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(options, "--flips"):
		switch fault {
		case "silent about flips":
			return nil
		case "few flips":
			fmt.Println(`{"flips": 3, "unnoticed": 0}`)
		case "misses a flip":
			fmt.Println(`{"flips": 600, "unnoticed": 1}`)
			return errors.New("1 of 600 changes of a byte go unnoticed")
		default:
			fmt.Println(`{"flips": 600, "unnoticed": 0}`)
		}
		return nil
	case slices.Contains(options, "-d"):
		if !bytes.HasPrefix(from, []byte("ZTPK")) {
			return refuse(names[0] + " is no model that llama-zen-pack has stored")
		}
		plain, err := openFake(names[0], from)
		if err != nil {
			return refuse(err.Error())
		}
		if fault == "loses a byte" {
			plain = plain[1:]
		}
		return os.WriteFile(names[1], plain, 0o644)
	}
	if bytes.HasPrefix(from, []byte("ZTPK")) {
		return refuse(names[0] + " is stored already")
	}
	if !bytes.HasPrefix(from, []byte("GGUF")) {
		return refuse(names[0] + " is no GGUF")
	}
	if f, err := gguf.Open(names[0]); err != nil {
		return refuse(names[0] + " is cut off")
	} else if err := f.Close(); err != nil {
		return err
	}
	if strings.HasPrefix(fault, "nothing becomes smaller") {
		return refuse(names[0] + " would not become smaller")
	}
	stored := storeFake(from)
	fmt.Printf("{\"file\": %q, \"bytes\": %d, \"gguf_bytes\": %d, \"coded\": 4, \"bits_per_weight\": 12.06}\n", names[1], len(stored), len(from))
	return os.WriteFile(names[1], stored, 0o644)
}
