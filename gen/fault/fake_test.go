package fault

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/program"
)

// The harness is tested with programs whose faults are known: symbolic links named like those of a build to this test, beside a file that
// names the fault and a folder that stands for the huge page pool.

const (
	faultFile  = "fault"
	poolFolder = "pool"
	fakeAnswer = "there was a model that said the same things every time it was asked"
)

func TestMain(m *testing.M) {
	if name := filepath.Base(os.Args[0]); slices.Contains(programs, name) {
		if err := fake(name, os.Args[1:]); err != nil {
			fmt.Fprintf(os.Stderr, "some log line\n%s: %v\n", name, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// fakeLab returns a lab of programs with the given fault; "" has none.
func fakeLab(t *testing.T, fault string) *lab {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write(filepath.Join(bin, faultFile), fault)
	for name, n := range map[string]string{"nr_hugepages": "8", "free_hugepages": "8", "resv_hugepages": "0", "surplus_hugepages": "0"} {
		write(filepath.Join(bin, poolFolder, name), n+"\n")
	}
	for _, p := range programs {
		if err := os.Symlink(self, filepath.Join(bin, p)); err != nil {
			t.Fatal(err)
		}
	}
	model := filepath.Join(bin, "model.gguf")
	write(model, "model")
	build := program.Build{Name: "tuned", Bin: bin}
	return &lab{
		machine: machine{pool: pool{filepath.Join(bin, poolFolder)}},
		stock:   build, tuned: build, model: model, limit: 20 * time.Second,
	}
}

// fake is a program of a build.
func fake(name string, args []string) error {
	dir := filepath.Dir(os.Args[0])
	raw, err := os.ReadFile(filepath.Join(dir, faultFile))
	if err != nil {
		return err
	}
	fault := string(raw)
	command := name
	if name == "zt-probe" {
		command, args = args[0], args[1:]
	}
	f := flag.NewFlagSet(command, flag.ContinueOnError)
	model, port := f.String("m", "", ""), f.String("port", "", "")
	for _, option := range []string{"t", "c", "p", "n", "np", "temp", "host"} {
		f.String(option, "", "")
	}
	for _, option := range []string{"no-cnv", "ignore-eos"} {
		f.Bool(option, false, "")
	}
	if err := f.Parse(args); err != nil {
		return err
	}
	if _, err := os.Stat(*model); err != nil && fault != "goes on" {
		return errors.New("no such model")
	}
	switch fault {
	case "hangs":
		signal.Ignore(syscall.SIGTERM)
		time.Sleep(time.Minute)
	case "dies":
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	case "fails":
		return errors.New("out of cheese")
	case "leaves a file":
		if err := os.WriteFile("core", nil, 0o644); err != nil {
			return err
		}
	case "leaves a process":
		if err := exec.Command("sleep", "60").Start(); err != nil {
			return err
		}
	case "leaks pages":
		if err := os.WriteFile(filepath.Join(dir, poolFolder, "free_hugepages"), []byte("3\n"), 0o644); err != nil {
			return err
		}
	case "says it twice":
		fmt.Fprintln(os.Stderr, "W fallback")
	}
	fmt.Fprintln(os.Stderr, "W fallback")
	if os.Getenv("ZT_LOG") == "1" {
		for i := range 100 {
			fmt.Fprintf(os.Stderr, "zen5: blk.%d.ffn_up.weight: packed q8_0 416 x 160\n", i)
		}
	}
	answer := fakeAnswer
	if fault == "answers wrongly" {
		answer += fmt.Sprint(os.Getpid())
	}
	if name != "llama-server" {
		fmt.Println(answer)
		return nil
	}
	return fakeServer(*port, answer, fault)
}

func fakeServer(port, answer, fault string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/completion", func(w http.ResponseWriter, r *http.Request) {
		raw, _ := io.ReadAll(r.Body)
		switch {
		case fault == "dies when asked":
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			time.Sleep(time.Second)
		case fault == "answers with an error":
			http.Error(w, "no", http.StatusInternalServerError)
		case strings.Contains(string(raw), `"stream":true`):
			fmt.Fprintf(w, "data: x\n\n")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			_ = json.NewEncoder(w).Encode(map[string]string{"content": answer})
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := http.Server{Handler: mux}
	go func() { _ = server.Serve(listener) }()
	<-ctx.Done()
	if fault == "ignores SIGTERM" {
		time.Sleep(time.Minute)
	}
	return server.Close()
}
