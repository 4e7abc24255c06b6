package distill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"triforce/engine"
	"triforce/tokenizer"
)

// writers is how many texts the target writes at a time, in shared passes.
const writers = 16

// write lets the target write texts, as many tokens as Self says if there is
// time. A model with a chat template writes conversations: it is given what
// comes before a user's message and makes that message up itself (Magpie: Xu et
// al. 2024), mostly after one of openings, sometimes with a word of its
// vocabulary, then it answers. Any other continues its begin-of-text token. Each
// text is one excerpt, about whose new tokens the target need not be asked again.
// What a text says depends on its number alone.
func (r *run) write(ctx context.Context) error {
	if r.Self == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(r.Work, "texts-"+r.state.Settings.Target), 0o755); err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	r.words = wordsOf(r.engine.File().Tokenizer().Vocab())
	batcher := r.engine.NewBatcher(0)
	defer batcher.Close()
	sessions := make(chan *engine.Session, writers)
	for range writers {
		s := batcher.NewSession()
		defer s.Close()
		sessions <- s
	}
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	type result struct {
		text []int32
		err  error
	}
	var ahead []chan result // of the texts after those in own
	for tokens := 0; tokens < r.Self; {
		if r.state.Settled && len(r.own) == r.state.SelfTexts {
			return nil
		}
		r.Report(Status{Phase: Writing, Done: tokens, Total: r.Self})
		for len(ahead) < 2*writers && !(r.state.Settled && len(r.own)+len(ahead) == r.state.SelfTexts) {
			i, done := len(r.own)+len(ahead), make(chan result, 1)
			ahead = append(ahead, done)
			group.Go(func() {
				s := <-sessions
				text, err := r.written(ctx, s, i)
				sessions <- s
				done <- result{text, err}
			})
		}
		w := <-ahead[0]
		ahead = ahead[1:]
		if errors.Is(w.err, errLate) {
			break
		}
		if w.err != nil {
			return w.err
		}
		r.own = append(r.own, w.text)
		tokens += len(w.text)
	}
	r.state.SelfTexts = len(r.own)
	return nil
}

// errLate says that a text was not begun because the time for writing is over.
var errLate = errors.New("late")

// written is text number i: one that was kept, or a new one.
func (r *run) written(ctx context.Context, s *engine.Session, i int) ([]int32, error) {
	text, err := r.kept(i)
	if !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	if !r.state.Settled && r.Steps == 0 && r.late(writeShare) {
		return nil, errLate
	}
	text, a, err := r.compose(ctx, s, uint64(i))
	if err == nil {
		err = r.store.put(text, a)
	}
	if err != nil {
		return nil, err
	}
	return text, r.keep(i, text)
}

func (r *run) textPath(i int) string {
	return filepath.Join(r.Work, "texts-"+r.state.Settings.Target, fmt.Sprintf("%d-%d-%06d.json", r.Seed, r.Length, i))
}

// kept reads a text that was written before.
func (r *run) kept(i int) ([]int32, error) {
	data, err := os.ReadFile(r.textPath(i))
	if err != nil {
		return nil, err
	}
	var tokens []int32
	if err := json.Unmarshal(data, &tokens); err != nil || len(tokens) == 0 {
		return nil, fmt.Errorf("%s: %w; remove the file, it will be made again", r.textPath(i), ErrWork)
	}
	for _, t := range tokens {
		if t < 0 || int(t) >= r.shape.Vocab {
			return nil, fmt.Errorf("%s: token %d, expected one below %d: %w; remove the file, it will be made again", r.textPath(i), t, r.shape.Vocab, ErrWork)
		}
	}
	return tokens, nil
}

func (r *run) keep(i int, tokens []int32) error {
	data, err := json.Marshal(tokens)
	if err == nil {
		err = writeData(r.textPath(i), data)
	}
	if err != nil {
		return fmt.Errorf("distill: %w", err)
	}
	return nil
}

// Lengths and temperatures of what the target writes. Answers take turns at the
// temperatures that people use.
const (
	messageTokens = 120
	leastText     = 24
	leastWord     = 5
)

// openings begin messages that a model by itself hardly makes up: it asks as those
// did whose conversations it was trained on, for advice and for lists, while people
// also want to know something in few words.
var openings = []string{
	"What is", "How do I", "Who was", "Why is", "Explain", "Write a", "Tell me", "What are", "How does", "List",
	"When did", "Where is", "Give me", "Describe", "Why do", "How can I", "What's the difference between", "Translate",
	"Summarize", "Which", "Should I", "What should", "Is it", "Define", "Compare", "Name", "How many", "Make up", "What happens", "Suggest",
}

// beginning is how message number i begins: every fourth as the target likes, the
// others with an opening, of which every third goes on with a word.
func (r *run) beginning(i uint64) string {
	kind := i / 2 % 4 // both of answerTemp's
	if kind == 0 {
		return ""
	}
	chance := rand.New(rand.NewPCG(r.Seed, i))
	begun := openings[chance.IntN(len(openings))]
	if kind == 3 && len(r.words) > 0 {
		begun += r.words[chance.IntN(len(r.words))]
	}
	return begun
}

// wordsOf lists the tokens that are a space and a word of small letters, long enough
// for a message to be about it.
func wordsOf(v *tokenizer.Vocab) []string {
	var all []string
	for t := range v.Size() {
		word, found := strings.CutPrefix(v.Piece(int32(t)), " ")
		if found && len(word) >= leastWord && strings.IndexFunc(word, func(c rune) bool { return c < 'a' || c > 'z' }) < 0 {
			all = append(all, " "+word)
		}
	}
	return all
}

func answerTemp(i uint64) float64 {
	if i%2 == 0 {
		return 0
	}
	return 0.7
}

// compose makes text number i, and answers to it.
func (r *run) compose(ctx context.Context, s *engine.Session, i uint64) (excerpt, *answers, error) {
	file := r.engine.File()
	if !file.HasChat() {
		return r.more(ctx, s, nil, r.Length, 1, i, true)
	}
	opening, err := file.ChatOpening(r.Now())
	if err != nil {
		return nil, nil, err
	}
	begun := file.Tokenizer().Encode(slices.Clip(opening), r.beginning(i), tokenizer.Options{Marks: tokenizer.MarksNone})
	for try := uint64(0); ; try++ {
		tokens, _, err := r.more(ctx, s, begun, messageTokens, 1, i+try<<32, false)
		if err != nil {
			return nil, nil, err
		}
		vocab := file.Tokenizer().Vocab()
		var message strings.Builder
		for _, t := range tokens[len(opening):] {
			if !vocab.IsEOG(t) {
				message.WriteString(vocab.Piece(t))
			}
		}
		content := strings.TrimSpace(message.String())
		if content == "" && try < 8 {
			continue // it had nothing to say
		}
		prompt, err := file.Chat(nil, []engine.Message{{Role: "user", Content: content}}, r.Now())
		if err != nil {
			return nil, nil, err
		}
		if len(prompt)+leastText > r.Length {
			prompt = prompt[:r.Length-leastText]
		}
		return r.more(ctx, s, prompt, r.Length-len(prompt), answerTemp(i), i, true)
	}
}

// more is the prompt with up to n tokens that the target goes on with, and what it
// says about the places before these, if that is wanted.
func (r *run) more(ctx context.Context, s *engine.Session, prompt []int32, n int, temp float64, seed uint64, wanted bool) (excerpt, *answers, error) {
	g := engine.GenDefaults()
	g.Predict, g.Sample.Temp, g.Sample.Seed, g.Spec.Mode, g.Rows = n, temp, r.Seed+seed, engine.SpecPlain, wanted
	text := append(excerpt(nil), prompt...)
	var a *answers
	var c circle
	if wanted {
		a = newAnswers(len(prompt)+n, r.engine.StateWidth())
	}
	_, err := s.Generate(ctx, prompt, g, func(t engine.Token) error {
		if t.ID < 0 {
			return nil
		}
		if wanted && len(text) > 0 {
			a.fill(r.set, len(text)-1, slices.Clone(t.Logits), slices.Clone(t.State))
		}
		text = append(text, t.ID)
		if wanted && c.closes(text) {
			return errCircle
		}
		return nil
	})
	if errors.Is(err, errCircle) {
		err = nil
	}
	if a != nil {
		a.cut(len(text))
	}
	return text, a, err
}
