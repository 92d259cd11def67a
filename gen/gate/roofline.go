package gate

import (
	"context"
	"fmt"
	"slices"

	"github.com/llama-zen-turbo/llama-zen-turbo/avo/roofline"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
)

// roofline measures what the machine can do at best, for the speeds that follow to be set against.
func (v *verifier) roofline(ctx context.Context, s *progress.Step) error {
	limits, err := v.Roofline(ctx, s.Count)
	if err != nil {
		return err
	}
	v.limits = limits
	v.Environment.Notes = slices.Concat(v.Environment.Notes, limits.Notes)
	for _, p := range limits.Points {
		threads := fmt.Sprintf("%d threads", p.Threads)
		if p.Threads == 1 {
			threads = "1 thread"
		}
		for _, x := range []struct {
			what string
			gate Gate
			rate roofline.Rate
		}{
			{"read, 4 KiB pages", readLimit, p.Small},
			{"read, 2 MiB pages", readLimit, p.Huge},
			{"VPDPBUSD", opsLimit, p.VNNI},
			{"VFMADD231PS", opsLimit, p.FMA},
			{"VDPBF16PS", opsLimit, p.BF16},
		} {
			if x.rate == nil {
				continue
			}
			samples := make([]float64, len(x.rate))
			for i, r := range x.rate {
				samples[i] = r / 1e9
			}
			v.judge(x.gate, "", x.what+", "+threads, Measurement{Samples: samples, Note: "best " + fmt.Sprintf("%.1f", x.rate.Best()/1e9)})
		}
	}
	all := limits.At(v.Threads)
	s.Did("%d threads read %.1f GB/s; int8 %.0f GOP/s, F32 %.0f, BF16 %.0f", v.Threads, all.Read()/1e9, all.VNNI.Best()/1e9, all.FMA.Best()/1e9, all.BF16.Best()/1e9)
	return nil
}
