package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/report"
)

// ReportPage writes the page of the last report again. The price is that of now where one is set, else that of the report.
func ReportPage(ctx context.Context, r Run) error {
	found, err := report.Read(r.Workspace.Report())
	if err != nil {
		return err
	}
	_, priced, err := report.PriceOf(os.Getenv)
	if err != nil {
		return err
	}
	if priced {
		found = found.WithPrice(os.Getenv)
	}
	return r.locked(func() error {
		return r.Log.Step(ctx, "page", func(_ context.Context, s *progress.Step) error {
			s.Did("%s", filepath.Join(r.Workspace.Report(), report.PageName))
			return found.WritePage(r.Workspace.Report())
		})
	})
}

// ReportReadme writes what was measured last between the README's markers: the ratios of `mage verify`, and the tables of `mage types`,
// `mage features`, `mage scaling`, `mage blas` and `mage flags`, whichever there are. A run of accuracy alone has no ratios.
func ReportReadme(ctx context.Context, r Run) error {
	type part struct {
		report.Report
		into func(report.Report, string) (string, error)
	}
	var parts []part
	var missing error
	for _, x := range []struct {
		name string
		into func(report.Report, string) (string, error)
	}{
		{report.FileName, report.Report.Readme}, {report.TypesName, report.Report.ReadmeTypes},
		{report.FeaturesName, report.Report.ReadmeFeatures}, {report.ScalingName, report.Report.ReadmeScaling},
		{report.ProductsName, report.Report.ReadmeProducts}, {report.ChoicesName, report.Report.ReadmeChoices},
	} {
		found, err := report.ReadSurvey(r.Workspace.Report(), x.name)
		if errors.Is(err, fs.ErrNotExist) {
			missing = cmp.Or(missing, err)
			continue
		} else if err != nil {
			return err
		}
		parts = append(parts, part{found, x.into})
	}
	if parts == nil {
		return missing
	}
	return r.Log.Step(ctx, "readme", func(_ context.Context, s *progress.Step) error {
		path := filepath.Join(r.Workspace.Root, "README.md")
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text := string(old)
		for _, p := range parts {
			if text, err = p.into(p.Report, text); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
		if text == string(old) {
			s.Did("%s says so already", path)
			return nil
		}
		s.Did("%s", path)
		return report.WriteFile(r.Workspace.Root, filepath.Base(path), []byte(text))
	})
}
