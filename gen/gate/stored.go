package gate

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// packer is the program that stores models with coded weights, and what it says of one that is not worth it.
const (
	packer     = "llama-zen-pack"
	notSmaller = "would not become smaller"
)

// StoredPrograms are those of the tuned build that the stored part runs.
var StoredPrograms = []string{"zt-probe", packer, "llama-quantize", "llama-gguf-split", "llama-server"}

// packed is what the packer says of a model it has stored or looked at.
type packed struct {
	Bytes     float64 `json:"bytes"`
	GGUF      float64 `json:"gguf_bytes"`
	Coded     int     `json:"coded"`
	Bits      float64 `json:"bits_per_weight"`
	Flips     float64 `json:"flips"`
	Unnoticed float64 `json:"unnoticed"`
}

// randomFlips is how many bytes of a stored model are changed beside those that a fault in the format would miss most likely.
const randomFlips = 300

// stored holds stored models to their GGUFs: the same logits in every load mode and with codes switched off, the GGUF comes back, damage is
// noticed before anything is answered, and nobody takes one for a GGUF.
func (v *verifier) stored(ctx context.Context, s *progress.Step, m Model) error {
	dir := filepath.Join(v.scratch, "stored")
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := m
	file.Path = filepath.Join(dir, "model.zen")

	s.Count(0, 5, m.Name+" "+packer)
	list, err := program.Run[packed](ctx, v.tuned, packer, "--json", m.Path, file.Path)
	if err != nil && strings.Contains(err.Error(), notSmaller) {
		left, err := os.ReadDir(dir)
		v.judge(leftFiles, m.Name, packer, Measurement{Value: float64(len(left)), Note: notSmaller})
		s.Did("%s %s", m.Name, notSmaller)
		return err
	} else if err != nil {
		return err
	}
	p := list[0]
	note := fmt.Sprintf("%d tensors in %.2f bits a weight", p.Coded, p.Bits)
	v.judge(storedSize, m.Name, packer, Measurement{Value: p.Bytes / p.GGUF, Note: note})

	s.Count(1, 5, m.Name+" "+packer+" -d")
	again := filepath.Join(dir, "again.gguf")
	if _, _, err := v.tuned.Output(ctx, packer, "-d", file.Path, again); err != nil {
		return err
	}
	was, err := hashFile(m.Path)
	if err != nil {
		return err
	}
	is, err := hashFile(again)
	if err != nil {
		return err
	}
	v.judge(roundTrip, m.Name, packer+" -d", Measurement{Value: count(was != is)})

	s.Count(2, 5, m.Name+" logits")
	if err := v.storedLogits(ctx, m, file); err != nil {
		return err
	}

	s.Count(3, 5, m.Name+" flips")
	stdout, _, err := v.tuned.Output(ctx, packer, "--check", "--flips", strconv.Itoa(randomFlips), "--json", file.Path)
	if list, _ = program.Lines[packed](stdout); list == nil { // where some go unnoticed it fails and says how many
		return errors.Join(fmt.Errorf("%s --flips says nothing", packer), err)
	}
	v.judge(unnoticedFlips, m.Name, "--flips", Measurement{Value: list[0].Unnoticed, Note: fmt.Sprintf("of %.0f", list[0].Flips)})
	v.judge(flipsMade, m.Name, "--flips", Measurement{Value: list[0].Flips})

	s.Count(4, 5, m.Name+" refusals")
	if err := v.storedRefusals(ctx, m, file, dir); err != nil {
		return err
	}
	s.Did("%s: %.1f %% of the GGUF, %s; %.0f flips", m.Name, 100*p.Bytes/p.GGUF, note, list[0].Flips)
	return nil
}

// storedLogits compares logits of m in stock with those of file, which stores it, however that is loaded.
func (v *verifier) storedLogits(ctx context.Context, m, file Model) error {
	want, err := toCode(m.Path)
	if err != nil {
		return err
	}
	type loading struct {
		what  string
		env   []string
		args  []string
		coded bool
	}
	auto := loading{"-lm auto", nil, []string{"-lm", "auto"}, true}
	off := "ZT_CODE=" + floatsOff
	for _, feed := range []struct {
		floatFeed
		loadings []loading
	}{
		{floatFeed{"prefill 33", m.feed(33)}, []loading{
			auto,
			{"-lm mmap", nil, []string{"-lm", "mmap"}, true},
			{"-lm none", nil, []string{"-lm", "none"}, true},
			{"-lm dio", nil, []string{"-lm", "dio"}, true},
			{"--no-repack", nil, []string{"--no-repack"}, false},
			{off, []string{off}, nil, false},
			{"ZT_DISABLE=1, -lm none", []string{"ZT_DISABLE=1"}, []string{"-lm", "none"}, false},
		}},
		{floatFeed{"decode 12", append(m.feed(12), "--mode", "decode")}, []loading{auto}},
	} {
		ref, err := v.logitsFile(ctx, v.stock, m, "ref", feed.args...)
		if err != nil {
			return err
		}
		for _, l := range feed.loadings {
			what := feed.name + ", " + l.what
			got := filepath.Join(v.scratch, "got")
			tuned := v.tuned.With(append(slices.Clone(l.env), "ZT_LOG=1")...)
			args := slices.Concat([]string{"logits", "-m", file.Path, "-t", strconv.Itoa(v.Threads), "-o", got}, feed.args, l.args)
			_, said, err := tuned.Output(ctx, "zt-probe", args...)
			if err != nil {
				return err
			}
			d, err := compareFiles(ref, got)
			if err != nil {
				return err
			}
			v.divergence(m.Name, what, d, floatOrder, &Divergence{})
			coded, err := readCoded(said)
			if err != nil {
				return err
			}
			if l.coded {
				v.judge(uncoded, m.Name, what, missing(want, coded))
			} else {
				v.judge(codedAnyway, m.Name, what, Measurement{Value: float64(len(coded))})
			}
		}
	}
	return nil
}

// storedPreface is the preface of a stored model (zen5/stored.h), as far as its sections follow from it.
type storedPreface struct {
	Magic                        [4]byte
	Text                         [196]byte
	Version, Tensors             uint32
	Size, Original, Before, Gaps uint64
	Sums                         [4]uint32
}

// storedPlaces are bytes of each section of a stored model, by the section's name. Padding is not among them.
func storedPlaces(model []byte) (map[string]int, error) {
	var p storedPreface
	if err := binary.Read(bytes.NewReader(model), binary.LittleEndian, &p); err != nil {
		return nil, fmt.Errorf("a stored model of %d bytes: %w", len(model), err)
	}
	padded := func(n uint64) int { return int(n+63) &^ 63 }
	before := binary.Size(p)
	gaps := before + padded(p.Before)
	table := gaps + padded(p.Gaps)
	tensors := table + padded(uint64(p.Tensors)*32)
	if string(p.Magic[:]) != "ZTPK" || tensors >= len(model) {
		return nil, fmt.Errorf("a stored model of %d bytes has no sections", len(model))
	}
	places := map[string]int{"magic": 0, "text": 40, "size": 208, "metadata": before + int(p.Before)/2, "table": table + 9,
		"first tensor": tensors, "tensors": (tensors + len(model)) / 2, "last byte": len(model) - 1}
	if p.Gaps > 0 {
		places["between tensors"] = gaps
	}
	return places, nil
}

// storedRefusals counts programs that work with what they must refuse, or refuse it without saying what it is.
func (v *verifier) storedRefusals(ctx context.Context, m, file Model, dir string) error {
	model, err := os.ReadFile(file.Path)
	if err != nil {
		return err
	}
	gguf, err := os.ReadFile(m.Path)
	if err != nil {
		return err
	}
	bad := filepath.Join(dir, "bad")
	target := filepath.Join(dir, "target")
	load := []string{"zt-probe", "load", "-m", bad, "-t", strconv.Itoa(v.Threads)}
	type try struct {
		what    string
		content []byte // of the file bad
		build   program.Build
		call    []string
		says    string
	}
	var tries []try
	places, err := storedPlaces(model)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(places)) {
		at := places[name]
		changed := bytes.Clone(model)
		changed[at] ^= 0x10
		says := "damaged"
		if name == "magic" {
			says = "invalid magic"
		}
		tries = append(tries, try{name + " changed", changed, v.tuned, load, says})
	}
	damaged := bytes.Clone(model)
	damaged[places["tensors"]] ^= 1
	tries = append(tries, try{"tensors changed, -lm auto", damaged, v.tuned, append(slices.Clone(load), "-lm", "auto"), "damaged"})
	for _, size := range []int{100, len(model) / 2, len(model) - 1} {
		tries = append(tries, try{fmt.Sprintf("cut off after %d bytes", size), model[:size], v.tuned, load, "cut off"})
	}
	tries = append(tries,
		try{"a byte more", append(bytes.Clone(model), 0), v.tuned, load, "damaged"},
		try{"stock's loader", model, v.stock, load, "invalid magic"},
		try{"llama-quantize", model, v.tuned, []string{"llama-quantize", bad, target, "Q8_0"}, packer + " -d"},
		try{"llama-gguf-split", model, v.tuned, []string{"llama-gguf-split", "--split", bad, target}, packer + " -d"},
		try{packer + " of a stored model", model, v.tuned, []string{packer, bad, target}, "already"},
		try{packer + " of a GGUF that is cut off", gguf[:len(gguf)-100], v.tuned, []string{packer, bad, target}, "cut off"},
		try{packer + " of no GGUF", []byte("hello"), v.tuned, []string{packer, bad, target}, "is no GGUF"},
		try{packer + " in place", gguf, v.tuned, []string{packer, "-f", bad, bad}, "the input itself"},
		try{packer + " over a file", gguf, v.tuned, []string{packer, bad, file.Path}, "is there already"},
		try{packer + " -d of a GGUF", gguf, v.tuned, []string{packer, "-d", bad, target}, "no model that " + packer + " has stored"},
		try{packer + " -d of a damaged model", damaged, v.tuned, []string{packer, "-d", bad, target}, "damaged"})
	var accepted, unclear []string
	judge := func(what string, err error, stderr, says string) {
		switch {
		case err == nil:
			accepted = append(accepted, what)
		case !strings.Contains(stderr+err.Error(), says):
			unclear = append(unclear, fmt.Sprintf("%s (%v)", what, err))
		}
	}
	for _, t := range tries {
		if err := os.WriteFile(bad, t.content, 0o644); err != nil {
			return err
		}
		_, stderr, err := t.build.Output(ctx, t.call[0], t.call[1:]...)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		judge(t.what, err, string(stderr), t.says)
	}

	if err := os.WriteFile(bad, damaged, 0o644); err != nil {
		return err
	}
	served := m
	served.Path = bad
	err = serve(ctx, v.tuned, served, []string{"-c", "64"}, func(context.Context, server) error { return nil })
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	judge("llama-server, tensors changed", err, "", "damaged")

	v.judge(acceptedFiles, m.Name, "refusals", Measurement{Value: float64(len(accepted)), Note: join(append([]string{fmt.Sprintf("of %d", len(tries)+1)}, accepted...)...)})
	v.judge(unclearRefusals, m.Name, "refusals", Measurement{Value: float64(len(unclear)), Note: join(unclear...)})
	left := 0.0
	if _, err := os.Stat(target); err == nil {
		left = 1
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	others, err := filepath.Glob(target + ".*")
	v.judge(leftFiles, m.Name, "refusals", Measurement{Value: left + float64(len(others))})
	return err
}
