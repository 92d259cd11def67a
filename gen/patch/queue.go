package patch

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// file is one patch of a queue.
type file struct {
	name string
	text []byte
}

var numbered = regexp.MustCompile(`^[0-9]{4}-.+\.patch$`)

// read returns the patches in the folder queue in the order they apply in. An empty name is the empty queue.
func read(queue string) ([]file, error) {
	if queue == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(queue) // sorted by name
	if err != nil {
		return nil, fmt.Errorf("patch queue: %w", err)
	}
	var files []file
	for _, e := range entries {
		if !numbered.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(queue, e.Name()))
		if err != nil {
			return nil, err
		}
		files = append(files, file{e.Name(), text})
	}
	return files, nil
}

// id identifies a queue over a base commit.
func id(base string, files []file) string {
	h := sha256.New()
	fmt.Fprintln(h, base)
	for _, f := range files {
		fmt.Fprintln(h, f.name, len(f.text))
		h.Write(f.text)
	}
	return fmt.Sprintf("%x", h.Sum(nil))
}

// diff is the part of a patch after its message.
func diff(text []byte) []byte {
	if i := bytes.Index(text, []byte("\ndiff --git ")); i >= 0 {
		return text[i+1:]
	}
	return nil
}

// hunk is a place in a patch.
type hunk struct {
	file   string // path in the tree
	number int    // from 1, within file
	line   int    // of the old file
	header string // "@@ -10,6 +10,7 @@"
}

var hunkHeader = regexp.MustCompile(`^@@ -(\d+)(?:,\d+)? \+\d+(?:,\d+)? @@`)

// hunks lists the hunks of a patch. A line of a hunk's content starts with a blank, "+", "-" or "\", so it is never taken for a
// header.
func hunks(text []byte) []hunk {
	var all []hunk
	var path string
	n := 0
	for line := range strings.Lines(string(diff(text))) {
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "diff --git ") {
			// The new name is what git reports. With equal names, which is all but renames, it is the second half.
			if _, b, ok := strings.Cut(line, " b/"); ok {
				path = b
			}
			n = 0
		} else if m := hunkHeader.FindStringSubmatch(line); m != nil {
			n++
			at, _ := strconv.Atoi(m[1])
			all = append(all, hunk{path, n, at, m[0]})
		}
	}
	return all
}

var (
	hashes      = regexp.MustCompile(`(?m)^index [0-9a-f]+\.\.[0-9a-f]+`)
	positions   = regexp.MustCompile(`(?m)^@@ -\d+(,\d+)? \+\d+(,\d+)? @@.*$`)
	fromAndDate = regexp.MustCompile(`(?m)\A(From [0-9a-f]{40} .*\n)?((?:.+\n)*?)Date: .*\n`)
	signature   = regexp.MustCompile(`\n-- \n[0-9]+\..*\n+\z`)
)

// essence is a patch without what moves when upstream or git does: the commit hash, the date, blob hashes, line numbers, the
// function git names behind them, and git's version at the end.
func essence(text []byte) string {
	text = fromAndDate.ReplaceAll(text, []byte("$2"))
	body := diff(text)
	head := text[:len(text)-len(body)]
	body = hashes.ReplaceAll(body, []byte("index"))
	body = positions.ReplaceAll(body, []byte("@@$1$2 @@"))
	body = signature.ReplaceAll(body, []byte("\n"))
	return string(head) + string(body)
}
