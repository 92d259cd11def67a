package command

import (
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

// ReportReadme writes the ratios of the last report between the README's markers, and the table of the last `mage types`, whichever there
// are. A run of accuracy alone has no ratios.
func ReportReadme(ctx context.Context, r Run) error {
	found, err := report.Read(r.Workspace.Report())
	types, typesErr := report.ReadTypes(r.Workspace.Report())
	switch {
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || typesErr != nil):
		return err
	case typesErr != nil && !errors.Is(typesErr, fs.ErrNotExist):
		return typesErr
	}
	return r.Log.Step(ctx, "readme", func(_ context.Context, s *progress.Step) error {
		path := filepath.Join(r.Workspace.Root, "README.md")
		old, readErr := os.ReadFile(path)
		if readErr != nil {
			return readErr
		}
		text := string(old)
		for _, x := range []struct {
			missing error
			into    func(string) (string, error)
		}{{err, found.Readme}, {typesErr, types.ReadmeTypes}} {
			if x.missing != nil {
				continue
			}
			var err error
			if text, err = x.into(text); err != nil {
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
