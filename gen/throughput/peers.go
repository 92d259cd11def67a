package throughput

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

var peerForm = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]*)=(.+)$`)

// Peers reads the value of ZT_PEERS: NAME=FOLDER,NAME=FOLDER ..., each a folder with the llama-bench of another engine.
func Peers(text string) ([]program.Build, error) {
	if text == "" {
		return nil, nil
	}
	taken := map[string]bool{"stock": true, "tuned": true}
	var peers []program.Build
	for item := range strings.SplitSeq(text, ",") {
		m := peerForm.FindStringSubmatch(strings.TrimSpace(item))
		if m == nil {
			return nil, fmt.Errorf("ZT_PEERS: %q is not NAME=FOLDER", item)
		}
		name, folder := m[1], m[2]
		if taken[name] {
			return nil, fmt.Errorf("ZT_PEERS: there is a build called %s already; give %s another name", name, folder)
		}
		taken[name] = true
		folder, err := filepath.Abs(folder)
		if err != nil {
			return nil, fmt.Errorf("ZT_PEERS: %w", err)
		}
		bench := filepath.Join(folder, "llama-bench")
		if st, err := os.Stat(bench); err != nil {
			return nil, fmt.Errorf("ZT_PEERS: %s: %w; name the folder that its llama-bench is in", name, err)
		} else if st.IsDir() || st.Mode()&0o111 == 0 {
			return nil, fmt.Errorf("ZT_PEERS: %s: %s is not a program", name, bench)
		}
		peers = append(peers, program.Build{Name: name, Bin: folder})
	}
	return peers, nil
}

// dialect is how a build's llama-bench wants to be called. Engines that descend from llama.cpp keep its options, more or less.
type dialect struct {
	noWarmup []string // turns its own warm-up off; nil where that cannot be said
	depth    bool     // it has -d
	after    bool     // it has -gp, which times generation after a prompt, instead
	why      string   // not empty: nothing can be measured with it
}

// standard is the dialect of the pinned llama.cpp.
var standard = dialect{noWarmup: []string{"--no-warmup"}, depth: true}

// learn asks a peer's llama-bench for its options.
func learn(ctx context.Context, peer program.Build) dialect {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stdout, stderr, err := peer.Output(ctx, "llama-bench", "--help")
	if err != nil {
		return dialect{why: err.Error()}
	}
	var d dialect
	has := map[string]bool{}
	for word := range strings.FieldsFuncSeq(string(stdout)+string(stderr), func(r rune) bool { return strings.ContainsRune(" ,\n\t", r) }) {
		has[word] = true
	}
	switch {
	case has["--no-warmup"]:
		d.noWarmup = []string{"--no-warmup"}
	case has["--warmup"]:
		d.noWarmup = []string{"--warmup", "0"}
	}
	d.depth = has["--n-depth"]
	d.after = has["-gp"] && !d.depth
	return d
}
