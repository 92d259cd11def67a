package blas

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// source is a program that uses the library through the header that ggml includes. It prints what the library calls itself,
// and with an argument multiplies matrices of small integers, whose products are exact in any order of summation.
const source = `#include <blis.h>
#include <stdio.h>
enum { M = 37, N = 70, K = 129 };
static float a[M * K], b[N * K], c[M * N];
int main(int argc, char ** argv) {
    bli_thread_set_num_threads(2);
    for (int i = 0; argc > 1 && i < M * K; i++) a[i] = (float) (i * 7 % 11 - 5);
    for (int i = 0; argc > 1 && i < N * K; i++) b[i] = (float) (i * 5 % 13 - 6);
    if (argc > 1) cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, M, N, K, 1.0f, a, K, b, K, 0.0f, c, N);
    for (int m = 0; argc > 1 && m < M; m++) for (int n = 0; n < N; n++) {
        float sum = 0;
        for (int k = 0; k < K; k++) sum += a[m * K + k] * b[n * K + k];
        if (sum != c[m * N + n]) { printf("row %d column %d is %g and not %g\n", m, n, c[m * N + n], sum); return 1; }
    }
    puts(bli_info_get_version_str());
    return argv == 0;
}
`

// program is source compiled with one library.
type program struct {
	dir, cc, include string
	link             []string
}

func (p program) path() string { return filepath.Join(p.dir, "check") }

// build compiles and links the program.
func (p program) build(ctx context.Context) error {
	file := p.path() + ".c"
	if err := os.WriteFile(file, []byte(source), 0o644); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, p.cc, append([]string{"-O1", "-isystem", p.include, file, "-o", p.path()}, p.link...)...).CombinedOutput()
	if err == nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "error") || strings.Contains(line, "undefined") {
			return errors.New(strings.TrimSpace(line))
		}
	}
	return fmt.Errorf("%s: %w", p.cc, err)
}

// run returns what the library calls itself, after a multiplication if multiply is set.
func (p program) run(ctx context.Context, multiply bool) (string, error) {
	cmd := exec.CommandContext(ctx, p.path())
	if multiply {
		cmd.Args = append(cmd.Args, "multiply")
	}
	out, err := cmd.Output()
	said := strings.TrimSpace(string(out))
	if err != nil {
		return "", fmt.Errorf("a program with it multiplies wrongly or not at all: %s", strings.TrimSpace(said+" "+err.Error()))
	}
	if said == "" {
		return "", errors.New("it does not say its version")
	}
	return said, nil
}
