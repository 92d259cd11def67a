package release

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

const sumsName = "SHA256SUMS"

var sumLine = regexp.MustCompile(`^([0-9a-f]{64})  (.+)$`)

// Verify reads an archive that Write made and says where it differs from its SHA256SUMS: a file whose content has another sum,
// a file without a sum, a sum without a file, or anything that keeps the archive from being read to its end.
func Verify(archive string) error {
	if err := verify(archive); err != nil {
		return fmt.Errorf("%s: %w", archive, err)
	}
	return nil
}

func verify(archive string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return err
	}
	defer z.Close()

	found := map[string]string{} // name to sum
	var folder, sums string
	t := tar.NewReader(z)
	for {
		h, err := t.Next()
		if err == io.EOF {
			break
		} else if err != nil {
			return err
		}
		top, name, _ := strings.Cut(h.Name, "/")
		if folder == "" {
			folder = top
		}
		if top != folder {
			return fmt.Errorf("%s is outside the folder %s", h.Name, folder)
		}
		switch {
		case h.Typeflag == tar.TypeDir:
			continue
		case h.Typeflag != tar.TypeReg:
			return fmt.Errorf("%s is neither file nor folder", name)
		case found[name] != "" || name == sumsName && sums != "":
			return fmt.Errorf("%s is there twice", name)
		case name == sumsName:
			text, err := io.ReadAll(t)
			if err != nil {
				return err
			}
			sums = string(text)
		default:
			sha := sha256.New()
			if _, err := io.Copy(sha, t); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			found[name] = fmt.Sprintf("%x", sha.Sum(nil))
		}
	}
	// Up to here a tar reader needs not have seen the end of the compressed stream, where its checksum is.
	if _, err := io.Copy(io.Discard, z); err != nil {
		return err
	}
	if sums == "" {
		return errors.New("there is no " + sumsName)
	}
	for line := range strings.Lines(sums) {
		m := sumLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			return fmt.Errorf("%s: %q is not a sum and a name", sumsName, line)
		}
		switch sum, ok := found[m[2]]; {
		case !ok:
			return fmt.Errorf("%s is missing, or twice in %s", m[2], sumsName)
		case sum != m[1]:
			return fmt.Errorf("%s has SHA-256 %s, but %s says %s", m[2], sum, sumsName, m[1])
		}
		delete(found, m[2])
	}
	if len(found) > 0 {
		return fmt.Errorf("%s lacks %s", sumsName, strings.Join(slices.Sorted(maps.Keys(found)), ", "))
	}
	return nil
}
