package report

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Names in the folder of a report.
const (
	FileName = "verify.json"
	PageName = "index.html"

	// Reports as well, of `mage types`, `mage features` and `mage scaling`.
	TypesName    = "types.json"
	FeaturesName = "features.json"
	ScalingName  = "scaling.json"
	ProductsName = "blas.json"
	ChoicesName  = "flags.json"
)

// Write writes r to FileName in dir, which it makes where it is missing, the page to PageName, and an entry to the history, of
// which it drops what is too old to keep. Each file changes all at once or not at all, and FileName changes last: where it is
// new, so are the others.
func (r Report) Write(dir string) error {
	if err := r.write(dir); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func (r Report) write(dir string) error {
	entry := r.Entry()
	history := filepath.Join(dir, HistoryName)
	if err := os.MkdirAll(history, 0o755); err != nil {
		return err
	}
	page, err := r.page(dir)
	if err != nil {
		return err
	}
	var files staged
	defer files.drop()
	for _, f := range []struct {
		path    string
		content func() ([]byte, error)
	}{
		{filepath.Join(history, entry.fileName()), func() ([]byte, error) { return encode(entry) }},
		{filepath.Join(dir, PageName), func() ([]byte, error) { return page, nil }},
		{filepath.Join(dir, FileName), func() ([]byte, error) { return encode(r) }},
	} {
		content, err := f.content()
		if err != nil {
			return err
		}
		if err := files.add(f.path, content); err != nil {
			return err
		}
	}
	if err := files.commit(); err != nil {
		return err
	}
	return prune(history, entry)
}

// WriteTypes writes r as WriteSurvey does, to TypesName.
func (r Report) WriteTypes(dir string) error { return r.WriteSurvey(dir, TypesName) }

// WriteSurvey writes r to a file in dir, which it makes where it is missing, and the page of the report beside it, if there is one,
// again.
func (r Report) WriteSurvey(dir, name string) error {
	text, err := encode(r)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := WriteFile(dir, name, text); err != nil {
		return err
	}
	beside, err := Read(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return beside.WritePage(dir)
}

// WritePage writes the page of r again, beside the report in dir.
func (r Report) WritePage(dir string) error {
	page, err := r.page(dir)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return WriteFile(dir, PageName, page)
}

// WriteFile writes a file of a report to dir, which it makes where it is missing. The file changes all at once or not at all.
func WriteFile(dir, name string, text []byte) error {
	var files staged
	defer files.drop()
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		err = files.add(filepath.Join(dir, name), text)
	}
	if err == nil {
		err = files.commit()
	}
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// page renders r beside the history and what else was measured in dir.
func (r Report) page(dir string) ([]byte, error) {
	entries, notes, err := readHistory(filepath.Join(dir, HistoryName))
	if err != nil {
		return nil, err
	}
	var beside Beside
	for _, x := range []struct {
		name, what string
		to         *Report
	}{
		{TypesName, "speeds by type", &beside.Types}, {FeaturesName, "features", &beside.Features}, {ScalingName, "speeds by threads", &beside.Scaling},
		{ProductsName, "products by BLAS", &beside.Products}, {ChoicesName, "compiler choices", &beside.Choices},
	} {
		found, err := ReadSurvey(dir, x.name)
		if err == nil {
			*x.to = found
		} else if !errors.Is(err, fs.ErrNotExist) {
			notes = append(notes, fmt.Sprintf("The %s were skipped: %v", x.what, err))
		}
	}
	var b bytes.Buffer
	err = r.HTML(&b, entries, notes, beside)
	return b.Bytes(), err
}

func encode(v any) ([]byte, error) {
	text, err := json.MarshalIndent(v, "", "  ")
	return append(text, '\n'), err
}

// staged are files written under other names until all of them are there.
type staged []struct{ temporary, path string }

func (s *staged) add(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	*s = append(*s, struct{ temporary, path string }{f.Name(), path})
	_, err = f.Write(content)
	return errors.Join(err, f.Chmod(0o644), f.Close())
}

// commit gives every file its name, in the order they were added.
func (s *staged) commit() error {
	for len(*s) > 0 {
		if err := os.Rename((*s)[0].temporary, (*s)[0].path); err != nil {
			return err
		}
		*s = (*s)[1:]
	}
	return nil
}

// drop removes what was not committed.
func (s *staged) drop() {
	for _, f := range *s {
		os.Remove(f.temporary)
	}
}
