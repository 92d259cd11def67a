// Generate makes the committed generated files of the checkout it runs in, as `mage generate` does. It needs none of them to
// compile, which mage does: use it when they have been deleted.
package main

import (
	"fmt"
	"os"

	"github.com/llama-zen-turbo/llama-zen-turbo/gen/generator"
	"github.com/llama-zen-turbo/llama-zen-turbo/gen/workspace"
)

func main() {
	w, err := workspace.Find()
	if err == nil {
		_, err = generator.Write(w.Root)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}
