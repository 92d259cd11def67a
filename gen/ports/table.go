package ports

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/mmcloughlin/avo/ir"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/kernel"
	"github.com/llama-zen-turbo/llama-zen-turbo/avo/weight"
)

// Row is what the model says of a kernel.
type Row struct {
	kernel.Info
	Loop
	Bounds []Bound // of each of CPUs
}

// Rows bounds kernels on all CPUs.
func Rows(programs []kernel.Program) ([]Row, error) {
	file, err := kernel.Compile(programs)
	if err != nil {
		return nil, err
	}
	return rowsIn(programs, file.Functions())
}

func rowsIn(programs []kernel.Program, fns []*ir.Function) ([]Row, error) {
	var rows []Row
	for i, fn := range fns {
		r, err := rowOf(programs[i].Info, fn)
		if err != nil {
			return nil, err
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func rowOf(k kernel.Info, fn *ir.Function) (Row, error) {
	r := Row{Info: k}
	var err error
	if r.Loop, err = LoopOf(fn); err != nil {
		return r, err
	}
	for _, c := range CPUs {
		b, err := c.Bound(r.Loop)
		if err != nil {
			return r, err
		}
		r.Bounds = append(r.Bounds, b)
	}
	return r, nil
}

// Spec returns the type of the panel that the kernel reads, or nil if it reads none. A round of its loop takes a block.
func (r Row) Spec() *weight.Spec {
	if r.Op == kernel.Quantize {
		return nil
	}
	for _, s := range slices.Concat(weight.Specs(), weight.Wides()) {
		if s.Name == r.Type {
			return s
		}
	}
	return nil
}

// Needed returns how many 512-bit VPDPBUSD the products of a round take at least, 64 each. A kernel may do more, for corrections.
func (r Row) Needed() int {
	if s := r.Spec(); s != nil {
		return r.Rows * r.Cols * s.Block / 64
	}
	return 0
}

// Share returns the part of CPU i's peak of VPDPBUSD that the products of the kernel can reach.
func (r Row) Share(i int) float64 { return float64(r.Needed()) / CPUs[i].Peak() / r.Bounds[i].Cycles }

// cycles writes a bound as tables hold it.
func cycles(b Bound) string { return fmt.Sprintf("%.2f", b.Cycles) }

// counted are the classes that a table shows for the kernels with the most rows.
var counted = []struct {
	title   string
	classes []Class
}{
	{"VNNI", []Class{VNNI}},
	{"multiply, FMA", []Class{Multiply}},
	{"integer multiply", []Class{IntegerMultiply}},
	{"convert, add", []Class{Convert, Add, Extreme}},
	{"shuffle", []Class{Shuffle}},
	{"shift", []Class{Shift}},
	{"logic", []Class{Logic, Select}},
	{"mask", []Class{Compare, MaskLogic, ToMask, FromMask}},
	{"load", []Class{VectorLoad, ScalarLoad}},
	{"store", []Class{Store}},
	{"scalar", []Class{Scalar, Branch}},
}

const head = "# Bounds of kernels\n\n" +
	"Written by `go test ./gen/ports -update` from the kernels' own code. A test fails while a kernel's loop is another than this file says,\n" +
	"and names those that got worse. The model and its limits: package `ports`; the ports: `cpus.go`.\n"

const shareText = "\nProducts as a share of the CPU's peak of VPDPBUSD, by activation rows of the kernel. What is missing to 100 % are instructions that take\n" +
	"VPDPBUSD's pipes or, at few rows, unpacking, which costs the same for any number of rows.\n"

const tileText = "\nTime for a row of products with tiles of 1 row and more, against tiles of the most rows; and how many sums a tile has, of those that it takes to\n" +
	"start VPDPBUSD as fast as the pipes do while each waits for the one before. `gen/target` has the rows that are best for every type of a CPU; a\n" +
	"test holds it to that. More do not fit: their sums and totals alone would take 28 of 32 registers. So zen5, which nobody has measured, has 6 x 32\n" +
	"as well: as its pipes take twice as many VPDPBUSD a cycle as those of zen4, so do they everything else, but its sums must be twice as many.\n"

const countText = "\nInstructions for 256 weights of each of 32 rows, in the kernels with the most activation rows. Loads and stores count beside the\n" +
	"instructions that they are part of.\n"

const kernelText = "\nA round of a kernel's loop takes one block of a panel: its instructions, the least cycles for it, the share of the peak, and what is\n" +
	"busy all the time. The peak is that of VPDPBUSD, or of coded weights that of VDPBF16PS or FMA.\n"

// Write writes rows as a page of tables.
func Write(w io.Writer, rows []Row) error {
	var b strings.Builder
	b.WriteString(head)
	for _, c := range CPUs {
		fmt.Fprintf(&b, "\n%s: %s\n", c.Name, c.Title)
		for _, s := range c.Sources {
			fmt.Fprintf(&b, "* %s\n", s)
		}
	}
	b.WriteString("\n## Rows\n" + shareText)
	tallest := map[string]Row{}
	var types []string
	most := 0
	for _, r := range rows {
		if r.Needed() == 0 {
			continue
		}
		if !slices.Contains(types, r.Type) {
			types = append(types, r.Type)
		}
		if most = max(most, r.Rows); !r.Ahead && r.Rows > tallest[r.Type].Rows {
			tallest[r.Type] = r
		}
	}
	for i, c := range CPUs {
		var titles []string
		for n := range most {
			titles = append(titles, fmt.Sprint(n+1))
		}
		line(&b, append([]string{"\n" + c.Name}, append(titles, fmt.Sprintf("busy at %d", most))...)...)
		rule(&b, most+2)
		for _, t := range types {
			cells := []string{t}
			for n := range most {
				cell := ""
				for _, r := range rows {
					if r.Type == t && r.Rows == n+1 && !r.Ahead && r.Needed() > 0 {
						cell = percent(r.Share(i))
					}
				}
				cells = append(cells, cell)
			}
			line(&b, append(cells, tallest[t].Bounds[i].Limit)...)
		}
	}

	b.WriteString("\n## Tiles\n" + tileText)
	for i, c := range CPUs {
		titles := []string{"\n" + c.Name}
		mean, worst, chains := []string{"mean of types"}, []string{"worst type"}, []string{"sums"}
		for n := range most {
			titles = append(titles, fmt.Sprint(n+1))
			sum, count, high, of := 0.0, 0.0, 0.0, ""
			for _, r := range rows {
				if r.Needed() == 0 || r.Rows != n+1 || r.Ahead {
					continue
				}
				x := tallest[r.Type].Share(i) / r.Share(i)
				sum, count = sum+x, count+1
				if x > high {
					high, of = x, r.Type
				}
			}
			if n+1 == most {
				of = ""
			}
			mean, worst = append(mean, percent(sum/count)), append(worst, strings.TrimSpace(percent(high)+" "+of))
			chains = append(chains, fmt.Sprintf("%d of %.0f", (n+1)*weight.PanelRows/16, float64(c.Latency)*c.Peak()))
		}
		line(&b, titles...)
		rule(&b, most+1)
		line(&b, mean...)
		line(&b, worst...)
		line(&b, chains...)
	}

	b.WriteString("\n## Instructions\n" + countText + "\n")
	titles := []string{"type"}
	for _, c := range counted {
		titles = append(titles, c.title)
	}
	line(&b, titles...)
	rule(&b, len(titles))
	for _, t := range types {
		r := tallest[t]
		cells := []string{t}
		for _, c := range counted {
			n := 0
			for _, class := range c.classes {
				n += r.Count(class)
			}
			cells = append(cells, fmt.Sprint(n*256/r.Spec().Block))
		}
		line(&b, cells...)
	}

	if err := writeCodes(&b, rows); err != nil {
		return err
	}

	b.WriteString(kernels + kernelText + "\n")
	titles = []string{"kernel", "instructions"}
	for _, c := range CPUs {
		titles = append(titles, c.Name, "share", "busy")
	}
	line(&b, titles...)
	rule(&b, len(titles))
	for _, r := range rows {
		cells := []string{r.Name, fmt.Sprint(r.Instructions())}
		for i, bound := range r.Bounds {
			share := ""
			if r.Needed() > 0 {
				share = percent(r.Share(i))
			} else if _, ok := r.Coded(); ok && r.Op != kernel.Expand {
				s, err := r.CodedShare(i)
				if err != nil {
					return err
				}
				share = percent(s)
			}
			cells = append(cells, cycles(bound), share, bound.Limit)
		}
		line(&b, cells...)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func percent(x float64) string { return fmt.Sprintf("%.0f %%", 100*x) }

func line(b *strings.Builder, cells ...string) {
	lead := ""
	for strings.HasPrefix(cells[0], "\n") {
		lead, cells[0] = lead+"\n", cells[0][1:]
	}
	b.WriteString(lead + "| " + strings.Join(cells, " | ") + " |\n")
}

func rule(b *strings.Builder, columns int) {
	b.WriteString("|" + strings.Repeat("---|", columns) + "\n")
}

// kernels heads the table that Differences reads.
const kernels = "\n## Kernels\n"

// Differences returns what differs between rows and a page that Write wrote: nothing, or a line each for kernels that got worse, better,
// or came or went.
func Differences(page string, rows []Row) []string {
	_, table, _ := strings.Cut(page, kernels)
	was := map[string][]string{}
	for text := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(text, "|\n "), " | ")
		if len(cells) == 2+3*len(CPUs) && strings.HasPrefix(cells[0], "zt_") {
			was[cells[0]] = cells[1:]
		}
	}
	var differences []string
	for _, r := range rows {
		old, ok := was[r.Name]
		if !ok {
			differences = append(differences, r.Name+" is new")
			continue
		}
		delete(was, r.Name)
		if now := fmt.Sprint(r.Instructions()); now != old[0] {
			differences = append(differences, fmt.Sprintf("%s takes %s instructions a block, and took %s", r.Name, now, old[0]))
		}
		for i, b := range r.Bounds {
			before := old[1+3*i]
			if now := cycles(b); now != before {
				var least float64
				fmt.Sscan(before, &least)
				change := "worse"
				if b.Cycles < least {
					change = "better"
				}
				differences = append(differences, fmt.Sprintf("%s got %s on %s: at least %s cycles a block (%s), and it was %s", r.Name, change, CPUs[i].Name, now, b.Limit, before))
			}
		}
	}
	for name := range was {
		differences = append(differences, name+" is gone")
	}
	slices.Sort(differences)
	return differences
}
