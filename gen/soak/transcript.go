package soak

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Where the kernels give the same bits in any batch, the rest of the pinned llama.cpp does so only within limits: its flash
// attention takes another path from 64 query rows of a sequence on, and for a sequence alone in its batch when its cache, counted
// in units of 256 tokens, reaches 512. Every slot has a cache of its own (--no-kv-unified), so that the other slots' lengths
// do not count. A question within the limits has one right answer; beyond them, an answer may turn at a near tie.
const (
	exactRows   = 63  // prompt tokens
	exactTokens = 256 // prompt and answer
)

// question is what clients ask, and the answer that they must get.
type question struct {
	length  length
	chat    bool
	text    string
	predict int    // tokens
	seed    uint32 // of sampling; 0 takes the best token each time

	exact  bool   // one right answer
	whole  answer // in one piece
	stream answer // piece by piece: its tokens lack those that do not end a character
}

// length sorts questions by their prompts.
type length int

const (
	short length = iota // within exactRows, with most tokenizers
	long                // far beyond: fills batches, and takes the attention's other paths
)

// answer is what came back.
type answer struct {
	text   string
	tokens []int   // of a completion; a chat has none
	prompt int     // tokens of the prompt
	tops   [][]top // for each of tokens, the best ones with their logarithmic probability; nil where the server said nothing
}

type top struct {
	ID      int     `json:"id"`
	Logprob float64 `json:"logprob"`
}

func (a answer) equals(b answer) bool { return a.text == b.text && slices.Equal(a.tokens, b.tokens) }

// begins says whether b is the beginning of a.
func (a answer) begins(b answer) bool {
	return strings.HasPrefix(a.text, b.text) && len(b.tokens) <= len(a.tokens) && slices.Equal(a.tokens[:len(b.tokens)], b.tokens)
}

// against says where b first differs from a.
func (a answer) against(b answer) string {
	for i := range min(len(a.tokens), len(b.tokens)) {
		if a.tokens[i] != b.tokens[i] {
			return fmt.Sprintf("token %d is %d, not %d", i, b.tokens[i], a.tokens[i])
		}
	}
	return fmt.Sprintf("%q, not %q", brief(b.text), brief(a.text))
}

// words are what prompts are made of: common enough to be a token or two anywhere.
var words = strings.Fields(`the river runs under an old stone bridge and past the mill where people once brought their corn every
	autumn before snow closed the road over the hills they counted sacks by lamp light wrote numbers into a long book paid in
	silver or in bread then walked home along the water while dogs barked at boats that came late from town with salt iron glass
	letters news of ships storms prices new machines which could lift ten men or print a page in less time than it takes to read one`)

// questions returns the transcript's, without answers. They begin with different words, so that no two share what a cache keeps.
func questions(seed uint64) []*question {
	rng := rand.New(rand.NewPCG(seed, 0x736f616b))
	var list []*question
	add := func(q question, n int) {
		text := []string{fmt.Sprint(len(list)+1, ":")}
		for range n {
			text = append(text, words[rng.IntN(len(words))])
		}
		q.text = strings.Join(text, " ")
		list = append(list, &q)
	}
	for i, n := range []int{1, 2, 3, 5, 8, 12, 16, 20, 24, 28, 32, 36} {
		q := question{predict: []int{8, 16, 24, 48}[i%4]}
		if i%3 == 2 {
			q.seed = rng.Uint32() | 1
		}
		add(q, n)
	}
	for _, n := range []int{1, 3, 6, 10, 15, 20} {
		add(question{chat: true, predict: 16 + n}, n)
	}
	for _, n := range []int{80, 160, 280, 420} {
		add(question{length: long, predict: 32}, n)
	}
	return list
}

// transcribe has every question answered alone, and again: the answers must be the same.
func (s *soaker) transcribe(ctx context.Context, srv *server) error {
	for i, q := range s.questions {
		if time.Now().After(s.end) {
			return fmt.Errorf("the whole %v went by for %d of the %d answers that are the transcript; give the run longer or the model more CPU", s.Duration, i, len(s.questions))
		}
		var err error
		ask := func(how manner) (a answer) {
			if err == nil {
				a, err = s.ask(ctx, srv, q, how)
			}
			return a
		}
		q.whole = ask(manner{})
		again := ask(manner{tops: !q.chat})
		q.stream = ask(manner{stream: true})
		if err != nil {
			return fmt.Errorf("question %q: %w", brief(q.text), err)
		}
		q.whole.tops = again.tops
		q.exact = s.Exact && q.whole.prompt <= exactRows && q.whole.prompt+q.predict <= exactTokens
		s.book.compared(q, manner{}, again, again.equals(q.whole))
		s.say()
	}
	return nil
}

// margin says how much less likely than the transcript's token, in logarithms of probability, is the one at which a first leaves the
// transcript. known is false where that cannot be said: of a sampled answer, of a chat, of a token that does not end a character,
// of one that is not among the transcript's best though those are close together.
func (q *question) margin(a answer) (margin float64, known bool) {
	if q.seed != 0 || len(q.whole.tops) == 0 || len(a.tokens) != len(q.whole.tokens) {
		return 0, false
	}
	for i, token := range a.tokens {
		if token == q.whole.tokens[i] {
			continue
		}
		tops := q.whole.tops[i]
		if len(tops) == 0 {
			return 0, false
		}
		for _, t := range tops {
			if t.ID == token {
				return tops[0].Logprob - t.Logprob, true
			}
		}
		least := tops[0].Logprob - tops[len(tops)-1].Logprob
		return least, least > nearTie.limit
	}
	return 0, true
}

func brief(text string) string {
	if len(text) > 40 {
		return text[:40] + "..."
	}
	return text
}
