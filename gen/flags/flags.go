// Package flags is the table of compiler choices that could be every build's default, and what they are worth: programs are built with
// each of them and take turns with those of the default build.
package flags

import (
	"fmt"
	"slices"
	"strings"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/toolchain"
)

// Choice is a way to compile and link all of llama.cpp and our runtime. Kernels are assembler: none of it touches them.
type Choice struct {
	Name    string
	Text    string
	Clang   bool // it takes clang and LLVM's tools
	Trained bool // it takes a profile of the project's own workload
	Shared  bool // libraries of its own instead of programs of one file
	Options toolchain.Options
}

var table = []Choice{
	{Name: "o2", Text: "-O2 instead of -O3", Options: toolchain.Options{More: map[string]string{
		"CMAKE_C_FLAGS_RELEASE": "-O2 -DNDEBUG", "CMAKE_CXX_FLAGS_RELEASE": "-O2 -DNDEBUG",
	}}},
	{Name: "no-interposition", Text: "-fno-semantic-interposition: calls within a library need not go through its table of symbols", Options: toolchain.Options{
		Compile: []string{"-fno-semantic-interposition"},
	}},
	{Name: "shared", Text: "libraries of their own, found beside the programs, instead of programs of one file", Shared: true},
	{Name: "thinlto", Text: "-flto=thin: functions of one source are inlined into others", Clang: true, Options: toolchain.Options{
		Compile: []string{"-flto=thin"}, Link: []string{"-flto=thin"},
	}},
	{Name: "pgo", Text: "optimized for what a prompt and a generation were seen to do", Clang: true, Trained: true},
	{Name: "pgo-thinlto", Text: "both", Clang: true, Trained: true, Options: toolchain.Options{
		Compile: []string{"-flto=thin"}, Link: []string{"-flto=thin"},
	}},
}

// All returns every choice.
func All() []Choice { return slices.Clone(table) }

// Chosen returns the choices that the value of ZT_FLAGS names, in the order of the table; all of them where it is empty.
func Chosen(text string) ([]Choice, error) {
	if text == "" {
		return All(), nil
	}
	named := map[string]bool{}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if !slices.ContainsFunc(table, func(c Choice) bool { return c.Name == item }) {
			return nil, fmt.Errorf("ZT_FLAGS: there is no %q; there are %s", item, strings.Join(Names(), ", "))
		}
		named[item] = true
	}
	return slices.DeleteFunc(All(), func(c Choice) bool { return !named[c.Name] }), nil
}

// Names returns the names of all choices.
func Names() []string {
	var names []string
	for _, c := range table {
		names = append(names, c.Name)
	}
	return names
}
