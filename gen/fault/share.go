package fault

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Packed weights that processes share (ZT_SHARE=1). What the programs say about them, with ZT_LOG=1:
const (
	saysShared  = "of packed weights in shared" // by the process that has packed them
	saysFound   = "of packed weights in pages of another process"
	saysWaiting = "is packing the same weights; waiting for it"
	saysAlone   = "packed weights are not shared"
	saysForeign = "of another user has the name under which packed weights are shared"
)

var shareScenarios = []scenario{
	{"two servers share packed weights", "the same answer; the weights are in memory once", sharedTwice},
	{"owner of shared weights killed", "the other goes on, and serves the next one", sharedOwnerKilled},
	{"model file replaced under a server that shares", "the next one packs the new file", sharedReplaced},
	{"owner of shared weights killed while it packs", "who waits for them packs for itself", sharedKilledPacking},
	{"owner of shared weights stands still", "who waits for them packs for itself, in time", sharedStandstill},
	{"name of shared weights taken by another user", "a warning; weights are packed", sharedHostile},
	{"another user asks for shared weights", "gets nothing", sharedStranger},
}

// sharing is a server that shares weights and logs what becomes of them.
func (l *lab) sharing(model string) call {
	return l.service(model).env("ZT_SHARE=1", "ZT_LOG=1", "ZT_HUGEPAGES=thp")
}

// serveSharing starts a server for the model, which must say phrase, and holds it to the right answer.
func (l *lab) serveSharing(ctx context.Context, model, phrase string) (*server, error) {
	want, err := l.serverAnswer(ctx, l.service(model))
	if err != nil {
		return nil, err
	}
	s, err := l.serve(ctx, l.sharing(model), 0)
	if err != nil {
		return nil, err
	}
	if !strings.Contains(s.stderr.String(), phrase) {
		return nil, fmt.Errorf("no line says %q: %s", phrase, s.call)
	}
	return s, l.holds(ctx, s, want)
}

// holds holds a running server to an answer.
func (l *lab) holds(ctx context.Context, s *server, want string) error {
	got, err := s.answer(ctx)
	if err != nil {
		return err
	}
	return same(s.call, got, want)
}

// weights returns how many bytes of shared memory are resident in a process, and its share of them: those mapped by two count half.
func (s *server) weights() (resident, share int64, err error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", s.pid))
	if err != nil {
		return 0, 0, err
	}
	if share, err = kilobytes(raw, "Pss_Shmem"); err != nil {
		return 0, 0, err
	}
	resident, err = s.status("RssShmem")
	return resident, share, err
}

func (l *lab) stopped(ctx context.Context, servers ...*server) error {
	for _, s := range servers {
		e, err := s.stop(ctx)
		if err = firstError(err, e.failed()); err != nil {
			return err
		}
	}
	return nil
}

func sharedTwice(ctx context.Context, l *lab) (string, error) {
	first, err := l.serveSharing(ctx, l.model, saysShared)
	if err != nil {
		return "", err
	}
	second, err := l.serveSharing(ctx, l.model, saysFound)
	if err != nil {
		return "", err
	}
	var got []string
	for _, s := range []*server{first, second} {
		resident, share, err := s.weights()
		if err != nil {
			return "", err
		}
		if resident == 0 || share > resident*6/10 {
			return "", fmt.Errorf("of %d bytes of shared memory a process' share is %d, not half: %s", resident, share, s.call)
		}
		got = append(got, fmt.Sprintf("%d of %d KiB", share/kib, resident/kib))
	}
	return "shares: " + strings.Join(got, ", "), l.stopped(ctx, second, first)
}

func sharedOwnerKilled(ctx context.Context, l *lab) (string, error) {
	first, err := l.serveSharing(ctx, l.model, saysShared)
	if err != nil {
		return "", err
	}
	second, err := l.serveSharing(ctx, l.model, saysFound)
	if err != nil {
		return "", err
	}
	stop, err := second.generate(ctx, longAnswer)
	if err != nil {
		return "", err
	}
	first.kill(unix.SIGKILL)
	if _, err := first.wait(ctx); err != nil {
		return "", err
	}
	stop()
	want, err := l.serverAnswer(ctx, l.service(l.model))
	if err == nil {
		err = l.holds(ctx, second, want)
	}
	if err != nil {
		return "", err
	}
	time.Sleep(200 * time.Millisecond) // to take the name over
	third, err := l.serveSharing(ctx, l.model, saysFound)
	if err != nil {
		return "", err
	}
	return "the same answers, and a third server found them with the second", l.stopped(ctx, second, third)
}

func sharedReplaced(ctx context.Context, l *lab) (string, error) {
	raw, err := os.ReadFile(l.model)
	if err != nil {
		return "", err
	}
	model := filepath.Join(l.models, "shared.gguf")
	if err := os.WriteFile(model, raw, 0o644); err != nil {
		return "", err
	}
	first, err := l.serveSharing(ctx, model, saysShared)
	if err != nil {
		return "", err
	}
	// the same bytes under the same name, so that the answer is known; to the programs it is another file
	other := model + ".new"
	if err := os.WriteFile(other, raw, 0o644); err != nil {
		return "", err
	}
	if err := os.Rename(other, model); err != nil {
		return "", err
	}
	second, err := l.serveSharing(ctx, model, saysShared)
	if err != nil {
		return "", err
	}
	return "each packed its own", l.stopped(ctx, second, first)
}

// packing starts a program that shares and stands still before it has packed all.
func (l *lab) packing(ctx context.Context) (*standstill, call, error) {
	c := l.greedy(l.model).env("ZT_SHARE=1", "ZT_HUGEPAGES=thp")
	s, err := l.standStill(ctx, c)
	return s, c, err
}

// waiting starts c beside a program that packs, and returns it when it has said that it waits.
func (l *lab) waiting(ctx context.Context, c call) (*process, error) {
	p, err := l.start(ctx, c.env("ZT_LOG=1"))
	if err != nil {
		return nil, err
	}
	for !strings.Contains(p.stderr.String(), saysWaiting) {
		if p.ended() {
			return nil, fmt.Errorf("ended without waiting: %s%s", c, p.end.last())
		}
		time.Sleep(10 * time.Millisecond)
	}
	return p, nil
}

func sharedKilledPacking(ctx context.Context, l *lab) (string, error) {
	s, c, err := l.packing(ctx)
	if err != nil {
		return "", err
	}
	p, err := l.waiting(ctx, c)
	if err != nil {
		s.log.Close()
		return "", err
	}
	if _, err := s.finish(ctx, unix.SIGKILL); err != nil {
		return "", err
	}
	e, err := p.wait(ctx)
	if err == nil {
		err = l.answered(ctx, e, l.greedy(l.model))
	}
	if err != nil {
		return "", err
	}
	return e.said(saysShared)
}

func sharedStandstill(ctx context.Context, l *lab) (string, error) {
	s, c, err := l.packing(ctx)
	if err != nil {
		return "", err
	}
	p, err := l.waiting(ctx, c)
	if err != nil {
		s.log.Close()
		return "", err
	}
	e, err := p.wait(ctx)
	if err == nil {
		err = l.answered(ctx, e, l.greedy(l.model))
	}
	if err != nil {
		s.log.Close()
		return "", err
	}
	got, err := e.said(saysAlone)
	if err != nil {
		s.log.Close()
		return "", err
	}
	first, err := s.goOn(ctx)
	if err == nil {
		err = l.answered(ctx, first, l.greedy(l.model))
	}
	return got, err
}

// sharedName finds the socket under which a running process shares.
func sharedName() (string, error) {
	raw, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return "", skip("the kernel does not list sockets: %v", err)
	}
	for line := range strings.Lines(string(raw)) {
		f := strings.Fields(line)
		if name := f[len(f)-1]; strings.HasPrefix(name, fmt.Sprintf("@llama-zen-turbo/%d/", os.Geteuid())) {
			return name, nil
		}
	}
	return "", fmt.Errorf("no process listens on a socket for shared weights")
}

// nobody is the user that has no files, by convention.
const nobody = 65534

// asNobody runs f in a thread of that user, which ends with it.
func asNobody(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread must not come back to others
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			done <- skip("no thread of another user can be had here: %v", errno)
			return
		}
		done <- f()
	}()
	return <-done
}

// sharedHostile has another user take the name of the weights.
func sharedHostile(ctx context.Context, l *lab) (string, error) {
	if !l.root {
		return "", skip("a process of another user needs root")
	}
	// a name goes with a program's content and user, so one that runs tells it
	first, err := l.serveSharing(ctx, l.model, saysShared)
	if err != nil {
		return "", err
	}
	name, err := sharedName()
	if err == nil {
		err = l.stopped(ctx, first)
	}
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := asNobody(func() error {
		if err := unix.Bind(fd, &unix.SockaddrUnix{Name: name}); err != nil {
			return err
		}
		return unix.Listen(fd, 8)
	}); err != nil {
		return "", err
	}
	e, err := l.run(ctx, l.completion(l.model).env("ZT_SHARE=1"))
	if err == nil {
		err = l.answered(ctx, e, l.completion(l.model))
	}
	if err != nil {
		return "", err
	}
	return e.said(saysForeign)
}

// sharedStranger has another user ask for the weights.
func sharedStranger(ctx context.Context, l *lab) (string, error) {
	if !l.root {
		return "", skip("a process of another user needs root")
	}
	s, err := l.serveSharing(ctx, l.model, saysShared)
	if err != nil {
		return "", err
	}
	name, err := sharedName()
	if err != nil {
		return "", err
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if err := asNobody(func() error { return unix.Connect(fd, &unix.SockaddrUnix{Name: name}) }); err != nil {
		return "", err
	}
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}); err != nil {
		return "", err
	}
	control := make([]byte, 64)
	n, oob, _, _, err := unix.Recvmsg(fd, make([]byte, 64), control, 0)
	if err != nil && err != unix.ECONNRESET {
		return "", err
	}
	if n > 0 || oob > 0 {
		return "", fmt.Errorf("another user got %d bytes and %d of control data from %s", n, oob, s.call)
	}
	return "the connection was closed without a word", l.stopped(ctx, s)
}
