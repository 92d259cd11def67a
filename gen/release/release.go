// Package release packs a build into an archive that says what is in it, how it was made and which gates it has passed.
package release

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/pin"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/target"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Options is all that an archive is made of. Equal options over equal files give equal archives.
type Options struct {
	Workspace workspace.Workspace
	Target    target.Target
	Version   string            // of this project, as built into the programs
	Epoch     time.Time         // modification time of every entry, to the second: the commit's, or SOURCE_DATE_EPOCH
	Programs  []string          // paths; each lands in bin/ under its base name
	Licenses  map[string]string // slash-separated name below licenses/ to the path of the text
	Patches   string            // folder of pin.toml and the queue
	Kernels   map[string][]byte // name to source of the generated kernels
	Compiler  string            // name and version
	BLAS      string            // name and version
	Pin       pin.Pin
	Report    string // folder of the report that `mage verify` wrote; the file need not exist
}

// Releasable says why a target cannot be released, or nil.
func Releasable(t target.Target) error {
	if t.Releasable {
		return nil
	}
	return fmt.Errorf("target %s, %s, cannot be released; `ZT_TARGET=zen5 mage release` packs the product", t.Name, t.Title)
}

// Write packs o into w.Dist()/llama-zen-turbo-<version>-<target>-linux-amd64.tar.zst and returns its path. The name ends in
// -unverified unless the report shows that all gates ran on this very build, on a CPU that the target accepts, and hold,
// and that its llama-server soaked for a day.
//
// Everything is in one folder named like the archive: bin/, licenses/ and manifest.json sorted by name, then SHA256SUMS over all of
// them in the format of sha256sum. The archive appears whole, after Verify has read it back, or not at all.
func Write(ctx context.Context, s *progress.Step, o Options) (string, error) {
	if err := Releasable(o.Target); err != nil {
		return "", err
	}
	if !versionForm.MatchString(o.Version) {
		return "", fmt.Errorf("version %q cannot be part of a file name; use letters, digits and . + _ - after a first letter or digit", o.Version)
	}
	if o.Epoch.Unix() <= 0 {
		return "", fmt.Errorf("the archive needs the time of the commit for its entries, not %v", o.Epoch)
	}
	payload, err := files(o)
	if err != nil {
		return "", err
	}
	m, err := describe(o)
	if err != nil {
		return "", err
	}
	text, err := m.encode()
	if err != nil {
		return "", err
	}
	payload = append(payload, entry{name: "manifest.json", text: text})
	slices.SortFunc(payload, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	for i, e := range payload[1:] {
		if e.name == payload[i].name {
			return "", fmt.Errorf("two files are to become %s: %s and %s", e.name, payload[i].path, e.path)
		}
	}

	folder := fmt.Sprintf("llama-zen-turbo-%s-%s-linux-amd64", o.Version, o.Target.Name)
	if !m.Verified {
		folder += "-unverified"
	}
	archive := filepath.Join(o.Workspace.Dist(), folder+".tar.zst")
	size, err := o.create(ctx, s, archive, folder, payload)
	if errors.Is(err, unix.ENOSPC) {
		return "", fmt.Errorf("disk full while writing %s; make room there, or let ZT_OUT name a folder with more", archive)
	} else if err != nil {
		return "", err
	}
	shown := archive
	if rel, err := filepath.Rel(o.Workspace.Root, archive); err == nil && filepath.IsLocal(rel) {
		shown = rel
	}
	if m.Verified {
		s.Did("%s, %.1f MB, gates passed on %s", shown, float64(size)/1e6, m.Gates.CPU)
	} else {
		s.Did("%s, %.1f MB, unverified: %s", shown, float64(size)/1e6, m.Reason)
	}
	return archive, nil
}

var versionForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]*$`)

// entry is a regular file of the archive. Its content is text, or that of the file at path.
type entry struct {
	name string // below the archive's folder
	path string
	text []byte
	mode int64
}

// files lists the programs and licenses after a look at each.
func files(o Options) ([]entry, error) {
	remedy := fmt.Sprintf("`ZT_TARGET=%s mage build` makes it", o.Target.Name)
	if len(o.Programs) == 0 {
		return nil, fmt.Errorf("no programs to release; `ZT_TARGET=%s mage build` makes them", o.Target.Name)
	}
	var all []entry
	for _, p := range o.Programs {
		if err := regular(p, remedy); err != nil {
			return nil, err
		}
		if err := builtFor(p, o); err != nil {
			return nil, err
		}
		all = append(all, entry{name: "bin/" + filepath.Base(p), path: p, mode: 0o755})
	}
	if len(o.Licenses) == 0 {
		return nil, errors.New("no licenses to release; the programs may not be passed on without them")
	}
	for _, name := range slices.Sorted(maps.Keys(o.Licenses)) {
		if !fs.ValidPath(name) || name == "." {
			return nil, fmt.Errorf("license name %q is not a plain path", name)
		}
		if err := regular(o.Licenses[name], "the license text "+name+" must be in a release"); err != nil {
			return nil, err
		}
		all = append(all, entry{name: "licenses/" + name, path: o.Licenses[name]})
	}
	return all, nil
}

// regular says what keeps path from being packed, with the remedy.
func regular(path, remedy string) error {
	st, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is missing; %s", path, remedy)
	case err != nil:
		return err
	case !st.Mode().IsRegular() || st.Size() == 0:
		return fmt.Errorf("%s is not a file with content; %s", path, remedy)
	}
	return nil
}

// Mark is what the guard in a program of that version and target says of itself (templates/ggml/src/ggml-cpu/zen5/guard.c.tmpl).
// A program without it was built for something else, from something else, or without the guard.
func Mark(version, target string) string {
	return "llama-zen-turbo " + version + ", target " + target + ", "
}

// builtFor refuses a program that does not carry o's Mark: w.Bin() holds whatever was built last.
func builtFor(path string, o Options) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	text, err := unix.Mmap(int(f.Fd()), 0, int(st.Size()), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer unix.Munmap(text)
	if !bytes.Contains(text, []byte(Mark(o.Version, o.Target.Name))) {
		return fmt.Errorf("%s is not a build of version %s for target %s; `ZT_TARGET=%s mage build` makes it",
			path, o.Version, o.Target.Name, o.Target.Name)
	}
	return nil
}

// The programs are linked statically from the same libraries. A window that reaches from one to the next shrinks the archive to
// 60 % of what 8 MiB give, and stays below the 128 MiB that zstd unpacks without being asked to.
const window = 64 << 20

// create writes the archive beside its place, reads it back and moves it there. It returns the archive's size.
func (o Options) create(ctx context.Context, s *progress.Step, archive, folder string, payload []entry) (size int64, err error) {
	if err := os.MkdirAll(filepath.Dir(archive), 0o755); err != nil {
		return 0, err
	}
	// A fixed name, so that what a killed run leaves is overwritten by the next. The workspace's lock keeps runs apart.
	partial := archive + ".partial"
	f, err := os.OpenFile(partial, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return 0, err
	}
	defer os.Remove(partial)
	defer f.Close()
	z, err := zstd.NewWriter(f, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression),
		zstd.WithWindowSize(window), zstd.WithEncoderCRC(true))
	if err != nil {
		return 0, err
	}
	if err := o.tar(ctx, s, z, folder, payload); err != nil {
		return 0, err
	}
	if err := z.Close(); err != nil {
		return 0, err
	}
	if err := f.Chmod(0o644); err != nil { // whatever the umask is
		return 0, err
	}
	if err := f.Sync(); err != nil {
		return 0, err
	}
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	if err := Verify(partial); err != nil {
		return 0, fmt.Errorf("the archive just written does not read back: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return 0, context.Cause(ctx)
	}
	return st.Size(), os.Rename(partial, archive)
}

// tar writes payload and the sums of what it wrote.
func (o Options) tar(ctx context.Context, s *progress.Step, w io.Writer, folder string, payload []entry) error {
	t := tar.NewWriter(w)
	header := tar.Header{ModTime: time.Unix(o.Epoch.Unix(), 0), Format: tar.FormatUSTAR}
	made := map[string]bool{}
	directory := func(name string) error {
		// Parents first. path.Dir of the last is ".".
		var missing []string
		for ; name != "." && !made[name]; name = path.Dir(name) {
			missing = append(missing, name)
			made[name] = true
		}
		for _, name := range slices.Backward(missing) {
			h := header
			h.Typeflag, h.Name, h.Mode = tar.TypeDir, name+"/", 0o755
			if err := t.WriteHeader(&h); err != nil {
				return err
			}
		}
		return nil
	}
	file := func(e entry) (sum []byte, err error) {
		name := folder + "/" + e.name
		if err := directory(path.Dir(name)); err != nil {
			return nil, err
		}
		var content io.Reader = bytes.NewReader(e.text)
		h := header
		h.Typeflag, h.Name, h.Mode, h.Size = tar.TypeReg, name, 0o644, int64(len(e.text))
		if e.mode != 0 {
			h.Mode = e.mode
		}
		if e.path != "" {
			f, err := os.Open(e.path)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			st, err := f.Stat()
			if err != nil {
				return nil, err
			}
			content, h.Size = f, st.Size()
		}
		if err := t.WriteHeader(&h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
		sha := sha256.New()
		if _, err := io.Copy(io.MultiWriter(t, sha), interruptible{ctx, content}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
		if err := t.Flush(); err != nil { // fails if the file shrank meanwhile
			return nil, fmt.Errorf("pack %s: %w", e.name, err)
		}
		return sha.Sum(nil), nil
	}

	var sums bytes.Buffer
	for i, e := range payload {
		s.Count(i, len(payload), e.name)
		sum, err := file(e)
		if err != nil {
			return err
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum, e.name)
	}
	if _, err := file(entry{name: sumsName, text: sums.Bytes()}); err != nil {
		return err
	}
	return t.Close()
}

// interruptible is a Reader that ends with ctx.
type interruptible struct {
	ctx context.Context
	io.Reader
}

func (r interruptible) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	return r.Reader.Read(p)
}
