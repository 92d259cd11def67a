package checker

import (
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// stream is the random stream of one test.
type stream struct {
	*rand.Rand
	seed uint64
}

var (
	processSeed = sync.OnceValue(func() uint64 { return uint64(rand.Uint32()) })
	streamsMu   sync.Mutex
	streams     = map[testing.TB]stream{}
)

// Rand returns tb's random stream, which also feeds its buffers and calls. It depends on tb's name and the seed alone, and a
// test that fails prints the seed: set ZT_SEED to it to see the same again. It belongs to one goroutine.
func Rand(tb testing.TB) *rand.Rand {
	tb.Helper()
	return streamOf(tb).Rand
}

func streamOf(tb testing.TB) stream {
	tb.Helper()
	streamsMu.Lock()
	defer streamsMu.Unlock()
	if s, ok := streams[tb]; ok {
		return s
	}
	seed := processSeed()
	if env := os.Getenv("ZT_SEED"); env != "" {
		var err error
		if seed, err = strconv.ParseUint(env, 10, 64); err != nil {
			tb.Fatalf("ZT_SEED=%s: want an unsigned number", env)
		}
	}
	name := tb.Name()
	if strings.HasPrefix(name, "Fuzz") {
		name, _, _ = strings.Cut(name, "/") // an input has no name of its own until it fails
	}
	hash := fnv.New64a()
	hash.Write([]byte(name))
	s := stream{rand.New(rand.NewPCG(seed, hash.Sum64())), seed}
	streams[tb] = s
	tb.Cleanup(func() {
		if tb.Failed() {
			tb.Logf("random inputs: ZT_SEED=%d", seed)
		}
		streamsMu.Lock()
		delete(streams, tb)
		streamsMu.Unlock()
	})
	return s
}
