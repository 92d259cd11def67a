package command

import (
	"context"
	"fmt"
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

// ReportReadme writes the ratios of the last report between the README's markers. A run of accuracy alone has none.
func ReportReadme(ctx context.Context, r Run) error {
	found, err := report.Read(r.Workspace.Report())
	if err != nil {
		return err
	}
	return r.Log.Step(ctx, "readme", func(_ context.Context, s *progress.Step) error {
		path := filepath.Join(r.Workspace.Root, "README.md")
		old, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		text, err := found.Readme(string(old))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if text == string(old) {
			s.Did("%s says so already", path)
			return nil
		}
		s.Did("%s", path)
		return report.WriteFile(r.Workspace.Root, filepath.Base(path), []byte(text))
	})
}
