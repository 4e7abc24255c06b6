package engine

import (
	"context"
	"errors"
	"fmt"
	"time"

	"triforce/kvcache"
	"triforce/model"
	"triforce/sample"
	"triforce/speculate"
	"triforce/tokenizer"
)

// StopReason says why a generation ended.
type StopReason string

// The reasons.
const (
	StopEOS       StopReason = "eos"       // the model ended the text
	StopLength    StopReason = "length"    // as many tokens as were asked for
	StopString    StopReason = "stop"      // the text reached a stop string
	StopContext   StopReason = "context"   // the context is full
	StopCancelled StopReason = "cancelled" // the caller's context ended
	StopDisk      StopReason = "disk"      // the file of the KV cache failed
)

// GenOptions says what to generate.
type GenOptions struct {
	Sample sample.Options
	// Predict is the number of tokens to generate; negative is until the
	// context is full.
	Predict int
	// Stop ends the text before any of these strings.
	Stop []string
	// IgnoreEOS goes on after tokens that end the text.
	IgnoreEOS bool
	// LogProbs is how many of the most probable tokens to report with each.
	LogProbs int
	// Rows asks for Token.Logits and Token.State.
	Rows bool
	// Spec says how to speculate.
	Spec Spec
	// Progress, if not nil, is told how many tokens of the prompt are read.
	Progress func(done, total int)
}

// GenDefaults are the options of a short text.
func GenDefaults() GenOptions {
	return GenOptions{Sample: sample.Defaults(), Predict: 256, Spec: SpecDefaults()}
}

const maxLogProbs = 1 << 10

// Validate reports the first option that is out of range, by its flag. The
// error wraps ErrUsage.
func (o *GenOptions) Validate() error {
	if err := o.Sample.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if err := o.Spec.Validate(); err != nil {
		return err
	}
	if o.LogProbs < 0 || o.LogProbs > maxLogProbs {
		return fmt.Errorf("%w: --logprobs %d: expected 0 to %d", ErrUsage, o.LogProbs, maxLogProbs)
	}
	for _, s := range o.Stop {
		if s == "" {
			return fmt.Errorf("%w: --stop: an empty string", ErrUsage)
		}
	}
	return nil
}

// Token is a step of a generation.
type Token struct {
	// ID is the token, or -1 at the end for text that had been held back.
	ID int32
	// Text is what the token completes: whole characters, none of them part of
	// what may become a stop string. It is valid during the call.
	Text []byte
	// LogProb is the logarithm of the token's probability before sampling, and
	// Top the most probable tokens, if they were asked for.
	LogProb float64
	Top     []sample.LogProb
	// Logits is what the model made of the text before the token, and State its
	// final hidden state there, if they were asked for. They are valid during the
	// call.
	Logits, State []float32
	// Origin indexes OriginNames: the level that first proposed the token.
	Origin uint8
}

// Result is what a generation did.
type Result struct {
	Stop StopReason
	// Prompt is the tokens of the prompt. Of them Cached were in the cache from
	// before, and Read were read in PromptTime: all others but the last, with
	// which the first round begins, unless something came between. Predicted is
	// the tokens generated.
	Prompt, Cached, Read, Predicted int
	// PromptTime is the time to read the prompt, PredictTime that of the rest.
	PromptTime, PredictTime time.Duration
	// Disk is what generating read and waited for, and what the cache has on disk.
	Disk DiskStats
}

// Session generates text: a sequence of tokens and the caches that belong to
// it.
type Session struct {
	e      *Engine
	b      *Batcher
	owned  bool // Close closes the batcher too
	run    *seat
	cache  *kvcache.Full
	tokens []int32 // the history, of which every cache holds a prefix
	levels *hierarchy
	rates  rates
}

// NewSession makes an empty session with workers of its own. Close it to end
// them.
func (e *Engine) NewSession() *Session {
	s := e.newBatcher(0).NewSession()
	s.owned = true
	return s
}

// NewSession makes an empty session whose passes are run with those of others.
func (b *Batcher) NewSession() *Session {
	s := &Session{e: b.e, b: b}
	if b.kept != nil {
		s.cache = b.kept.newCache()
	} else {
		s.cache = b.e.newCache()
	}
	s.run = b.newSeat(b.main, s, b.e.passRows())
	return s
}

// maxLogits is how many rows of a pass want logits: a proposal and the token
// before it.
const maxLogits = 2*speculate.MaxDepth + 2

// Forget empties the session: its history, and its memory where that is shared.
// What it has read stays known to others.
func (s *Session) Forget() {
	s.tokens = s.tokens[:0]
	if s.b.kept != nil {
		s.cache.Clear()
	} else {
		s.cache.Rewind(0)
	}
	if s.levels != nil {
		s.levels.rewind(0)
	}
}

// Close ends the session's workers and gives its file back.
func (s *Session) Close() {
	_ = s.cache.Close() // nobody needs the file, or can do something about it
	if s.b.kept != nil {
		s.cache.Clear()
	}
	if s.owned {
		s.b.Close()
	}
}

// CacheBytes is the memory that keys and values have taken, those of the
// levels below included.
func (s *Session) CacheBytes() int64 {
	n := s.cache.Bytes()
	if s.levels != nil {
		n += s.levels.bytes()
	}
	return n
}

// Levels says what each level did in the last generation, the topmost first.
func (s *Session) Levels() []speculate.Stats {
	var all []speculate.Stats
	if s.levels != nil {
		for i := len(s.levels.levels) - 1; i >= 0; i-- {
			all = append(all, s.levels.levels[i].Stats())
		}
	}
	return all
}

// PlainSeconds is the measured cost of a token by plain decoding at the length
// that the session has reached, or 0 if it has not been measured.
func (s *Session) PlainSeconds() float64 {
	if s.levels == nil {
		return 0
	}
	return s.levels.top.PassSeconds(1)
}

// Generate continues the prompt and calls emit with every token as it comes.
// What the session has read of the prompt in earlier calls it does not read
// again. An empty prompt stands for the token that begins a text.
//
// The result is valid even with an error: that of ctx, that of emit, or one
// that wraps ErrContext where the prompt is longer than the context.
func (s *Session) Generate(ctx context.Context, prompt []int32, o GenOptions, emit func(Token) error) (Result, error) {
	if err := o.Validate(); err != nil {
		return Result{}, err
	}
	if len(prompt) == 0 {
		prompt = s.e.begin()
	}
	result := Result{Prompt: len(prompt)}
	if len(prompt) > s.e.opt.Context {
		return result, contextError("prompt", len(prompt), s.e.opt.Context)
	}
	err := s.e.checkTokens(prompt)
	if err != nil {
		return result, err
	}
	tokens := s.e.opt.Context
	if o.Predict >= 0 {
		tokens = min(tokens, len(prompt)+o.Predict)
	}
	if err := s.checkSpace(tokens); err != nil {
		return result, err
	}
	if err := s.speculate(o.Spec); err != nil {
		return result, err
	}
	s.run.logits.States = o.Rows || s.levels.known != nil
	s.b.begin()
	defer s.b.end(s)
	start := time.Now()
	result.Cached, err = s.prefill(ctx, prompt, o.Progress)
	result.Read = s.cache.Len() - result.Cached
	s.remember()
	if err == nil {
		err = s.levels.prime(ctx, prompt, o.Sample)
	}
	result.PromptTime = time.Since(start)
	if err == nil {
		start = time.Now()
		before := s.Disk()
		err = s.decode(ctx, &o, &result, emit)
		result.PredictTime = time.Since(start)
		result.Disk = s.Disk().Since(before)
		s.tokens = append(s.tokens[:0], s.levels.top.History()...)
		s.remember()
	}
	if errors.Is(err, ErrDisk) && result.Predicted > 0 {
		result.Stop = StopDisk
	}
	if cause := ctx.Err(); cause != nil && errors.Is(err, cause) {
		result.Stop = StopCancelled
	}
	if errors.Is(err, kvcache.ErrNoPages) {
		err = fmt.Errorf("%w: %w", ErrMemory, err)
	}
	return result, err
}

// speculate makes the levels that spec asks for, if they are not there.
func (s *Session) speculate(spec Spec) error {
	if s.e.draft == nil && (spec.Mode == SpecDraft || spec.Mode == SpecTriForce) {
		return fmt.Errorf("%w: --spec %s needs a draft model; name one with --draft (-d)", ErrUsage, spec.Mode)
	}
	if s.levels == nil || s.levels.spec != spec {
		s.levels = s.build(spec)
	}
	return nil
}

// crowdedRows is how many tokens of a prompt a pass takes while other sessions
// generate.
const crowdedRows = 64

// prefill makes the cache hold the prompt but for its last token, with which
// the first round begins. It returns how many tokens were there from before.
func (s *Session) prefill(ctx context.Context, prompt []int32, progress func(done, total int)) (cached int, err error) {
	last := len(prompt) - 1
	if s.b.kept != nil && s.cache.Len() == 0 {
		s.tokens = append(s.tokens[:0], prompt[:s.b.kept.adopt(s.cache, prompt[:last])]...)
	}
	same := 0
	for same < min(len(s.tokens), last) && s.tokens[same] == prompt[same] {
		same++
	}
	cached = min(same, s.cache.Len())
	s.cache.Rewind(cached)
	s.levels.rewind(same)
	s.tokens = append(s.tokens[:same], prompt[same:]...)
	for at := cached; at < last; at = s.cache.Len() {
		if progress != nil {
			progress(at-cached, last-cached)
		}
		rows := s.e.opt.Batch
		if s.b.crowded() {
			rows = min(rows, crowdedRows) // others wait for the pass
		}
		batch := model.Batch{Tokens: prompt[at:min(at+rows, last)]}
		s.cache.Record(nil)
		if at+len(batch.Tokens) == last { // what matters to the newest tokens
			s.cache.Record(s.levels.mass)
		}
		start := time.Now()
		if err := s.run.Forward(ctx, s.cache, batch); err != nil {
			return cached, err
		}
		s.rates.observe(s.e, at, len(batch.Tokens), time.Since(start).Seconds())
	}
	if progress != nil {
		progress(last-cached, last-cached)
	}
	return cached, nil
}

// remember lets others begin with what the session has read.
func (s *Session) remember() {
	if s.b.kept != nil {
		s.b.kept.remember(s.cache, s.tokens[:s.cache.Len()])
	}
}

// decode draws tokens, a round at a time, until there is a reason to stop.
func (s *Session) decode(ctx context.Context, o *GenOptions, result *Result, emit func(Token) error) error {
	vocab := s.e.file.tokenizer.Vocab()
	text := newTextStream(vocab, o.Stop)
	limit, full := s.e.opt.Context+1-result.Prompt, StopContext
	if o.Predict >= 0 && o.Predict <= limit {
		limit, full = o.Predict, StopLength
	}
	var err error
	for err == nil && result.Stop == "" {
		if result.Predicted == limit {
			result.Stop = full
			break
		}
		var round []speculate.Token
		if round, err = s.levels.top.Round(ctx, limit-result.Predicted); err != nil {
			break
		}
		for _, t := range round {
			token := Token{ID: t.ID, Origin: t.Origin}
			if o.LogProbs > 0 {
				token.LogProb = sample.LogProbOf(t.Row, t.ID)
				token.Top = sample.LogProbs(t.Row, o.LogProbs)
			}
			if o.Rows {
				token.Logits, token.State = t.Row, s.run.State(t.At)
			}
			var stopped bool
			token.Text, stopped = text.next(t.ID)
			result.Predicted++
			err = emit(token)
			if stopped {
				result.Stop = StopString
			} else if vocab.IsEOG(t.ID) && !o.IgnoreEOS {
				result.Stop = StopEOS
			}
			if err != nil || result.Stop != "" {
				s.levels.top.Accept(t.Pos+1, nil) // drop the rest of the round
				break
			}
		}
	}
	if rest := text.rest(); len(rest) > 0 {
		err = errors.Join(err, emit(Token{ID: -1, Text: rest}))
	}
	return err
}

// begin is the prompt that stands for no prompt.
func (e *Engine) begin() []int32 {
	v := e.file.tokenizer.Vocab()
	for _, id := range []int32{v.BOS(), v.EOS()} {
		if id >= 0 {
			return []int32{id}
		}
	}
	return []int32{0}
}

func (e *Engine) checkTokens(tokens []int32) error {
	for i, id := range tokens {
		if id < 0 || int(id) >= e.model.Vocab {
			return fmt.Errorf("%w: token %d is %d, outside the vocabulary of %d", ErrUsage, i, id, e.model.Vocab)
		}
	}
	return nil
}

func contextError(what string, tokens, context int) error {
	return fmt.Errorf("%w: the %s has %d tokens, the context %d; raise --ctx-size (-c)", ErrContext, what, tokens, context)
}

// Score returns the negative log-likelihood, in nats, of each token but the
// first given all before it. progress, if not nil, is told how many tokens are
// scored.
func (e *Engine) Score(ctx context.Context, tokens []int32, progress func(done, total int)) ([]float64, error) {
	// The last is scored, but not read.
	if err := e.checkTokens(tokens); err != nil {
		return nil, err
	}
	r := e.NewReader()
	defer r.Close()
	last := max(len(tokens)-1, 0)
	nll := make([]float64, 0, last)
	err := r.Read(ctx, tokens[:last], func(logits [][]float32) error {
		for _, row := range logits {
			nll = append(nll, -sample.LogProbOf(row, tokens[len(nll)+1]))
		}
		if progress != nil {
			progress(len(nll), last)
		}
		return nil
	})
	return nll, err
}

// Encode turns a prompt into tokens as the model wants them, special tokens in
// it included.
func (f *File) Encode(text string) []int32 {
	return f.tokenizer.Encode(nil, text, tokenizer.Options{Special: true})
}
