// Package speculate generates tokens through a hierarchy of models, each
// verifying what the one below it proposes, without changing what the topmost
// would have generated alone.
//
//	Level{ target + full cache, Level{ target + retrieved cache, Level{ draft + streaming cache } } }
//
// A Level is a verifier (a model with a cache) over any number of drafters, and
// is itself a Drafter, so that one type is every depth of hierarchy: without the
// middle it is ordinary speculation, without drafters plain decoding. NGram is a
// drafter without a model; FirstOf asks several in turn.
//
// # One round of a level
//
//	history   t0 t1 ... tn | the last token is not in the cache yet: it is pending
//	propose   the chosen drafter continues the history by up to k tokens
//	pass      the verifier runs over pending and proposed tokens at once
//	walk      from the pending token on, the level draws its own token from each
//	          row and follows the proposal as long as it holds that token
//	keep      caches and histories are cut to what the walk accepted; its last
//	          token, the level's own, is pending in the next round
//
// # Exactness
//
// Under the Coupled rule a level's token is a pure function of its logits, its
// position and the seed, so any proposal leads to the text of plain decoding,
// bit for bit. Under Rejection the text has the distribution of plain decoding:
// a proposed token is accepted with probability min(1, p/q), and the token after
// a rejection is drawn from the residual, at every level, so that the q which a
// level hands upward is the distribution its tokens follow. Greedy choice is
// exact under both. All of it holds if the logits of a row do not depend on what
// else was in the pass; and all rows of a hierarchy must be over one vocabulary
// (a padded tail is cut off by whoever makes the verifiers).
//
// # Caches
//
// Each level knows its whole history, and feeds its verifier whatever the cache
// lacks of it, so a cache that lags is slower but never wrong. Histories are
// addressed absolutely (the first base tokens, then these), so telling a drafter
// twice does no harm and several levels may share one. On error, cancellation
// included, every level returns to the history it had before the call.
//
// A hierarchy serves one goroutine. Slices passed to or from it are valid until
// the next call; only Request.History is copied.
package speculate

import (
	"context"
	"errors"

	"triforce/sample"
)

// MaxDepth is the largest number of tokens asked of a drafter in one round.
const MaxDepth = 64

// ErrFull reports that the verifier of the topmost level takes no more tokens.
var ErrFull = errors.New("speculate: the context is full")

// Verifier is a model with a cache. The cache holds a prefix of the history.
type Verifier interface {
	// Len is the number of tokens in the cache.
	Len() int

	// Forward appends tokens to the cache and returns the logits that follow
	// each of the last want of them, in order. Without parents the tokens are a
	// chain; otherwise parents[i] < i is the index in tokens of the token that
	// tokens[i] follows, -1 being the last one in the cache, and a token sees
	// and counts its position by its ancestors only. The rows are valid until
	// the next Forward of any verifier that shares its scratch memory. After an
	// error the cache holds what it held, and possibly tokens appended to it.
	Forward(ctx context.Context, tokens, parents []int32, want int) ([][]float32, error)

	// Truncate leaves at most the first n tokens in the cache.
	Truncate(n int)

	// Keep follows a Forward with parents: after the first base tokens, the
	// length before that call, only the tokens it appended at the indices in
	// path remain, in that order.
	Keep(base int, path []int32)

	// Commit says that the first n tokens of the history are final. A cache may
	// take over from another what it lacks of them (Len grows), evict, or index.
	// It is called before each round, possibly with the same n again.
	Commit(n int)

	// MaxRows is the largest number of tokens that the next Forward takes; it
	// is 0 when the cache is full.
	MaxRows() int
}

// Behind is a Verifier whose cache may have more to do before a pass than to take
// the tokens that it lacks.
type Behind interface {
	Verifier
	// Behind is the seconds that CatchUp is expected to take, 0 if there is
	// nothing to do.
	Behind() float64
	// CatchUp does it now. Otherwise the next Forward does.
	CatchUp() error
}

// Drafter continues a history cheaply. A drafter that several others share is
// told everything by each of them.
type Drafter interface {
	// Reset adopts the history of a new request.
	Reset(Request)

	// Draft proposes tokens for up to n positions after the history, none when
	// it has nothing to say. Whoever can tell how likely a token is to be accepted
	// stops where it does not reach the bar. Accept follows, after an error too.
	Draft(ctx context.Context, n int, bar Bar) (Proposal, error)

	// Accept says that the history is its first base tokens, then kept,
	// whatever was proposed.
	Accept(base int, kept []int32)

	// Commit says that the first n tokens of the history are final.
	Commit(n int)
}

// Bar is the chances of acceptance, with all tokens before it, below which a token
// is not worth its cost: More that of drafting one more, Keep that of verifying one
// that was drafted.
type Bar struct{ More, Keep float64 }

// Confident is a Drafter that says, at next to no cost, how sure it is of what it
// would propose, so that it is asked when that pays.
type Confident interface {
	Drafter

	// Confidence is below Confidences, and 0 if there is nothing to propose;
	// tokens is how many there are.
	Confidence() (confidence, tokens int)

	// Priors are the chances of acceptance assumed at first, by confidence.
	Priors() [Confidences]float64
}

// Confidences is how many degrees of confidence are told apart, that of having
// nothing to say included.
const Confidences = 8

// Rule says which proposed tokens a level accepts.
type Rule uint8

const (
	// Coupled accepts the token that the level draws itself, from noise that all
	// levels share.
	Coupled Rule = iota
	// Rejection is speculative sampling: min(1, p/q), then the residual.
	Rejection
)

// String is the rule's name on the command line.
func (r Rule) String() string {
	if r == Rejection {
		return "rejection"
	}
	return "coupled"
}

// Request is what differs from one generation to the next. Each verifier's cache
// must hold a prefix of the history, which is not empty.
type Request struct {
	History  []int32
	Sampling sample.Options // valid
	Rule     Rule

	dice dice // of the topmost level, for all below it
}

// Proposal is a chain or a tree of tokens that may follow a history.
type Proposal struct {
	Tokens []int32

	// Parents makes it a tree: Parents[i] < i is the index of the token that
	// Tokens[i] follows, -1 the history. Siblings are in the order in which they
	// were drawn. nil is a chain.
	Parents []int32

	// Q holds, under Rejection, the distribution that each token was drawn from;
	// siblings were drawn from that of the first of them without replacement.
	// nil says that the tokens did not depend on chance.
	Q []sample.Dist

	// Origin says who first proposed each token (Config.Origin, NewNGram).
	Origin []uint8

	// Drafted is how many tokens of a chain were drafted, those that were then left
	// out among them; 0 says that none were.
	Drafted int
}

// Token is one generated token.
type Token struct {
	ID     int32
	Pos    int       // in the history
	Origin uint8     // who first proposed it
	Row    []float32 // the logits it was drawn from, before sampling
	At     int       // which of the rows of the topmost verifier's last pass that is
}

// parent is the index of the token that token i follows.
func (p *Proposal) parent(i int) int {
	if p.Parents == nil {
		return i - 1
	}
	return int(p.Parents[i])
}

// child is the first token at or after index i that follows node, or -1.
func (p *Proposal) child(node, i int) int {
	for ; i < len(p.Tokens); i++ {
		if p.parent(i) == node {
			return i
		}
	}
	return -1
}

// depth is the number of positions that the proposal covers.
func (p *Proposal) depth() int {
	if p.Parents == nil {
		return len(p.Tokens)
	}
	deepest := 0
	for i := range p.Tokens {
		depth := 0
		for ; i >= 0; i = p.parent(i) {
			depth++
		}
		deepest = max(deepest, depth)
	}
	return deepest
}

// cut leaves the first n tokens, a tree like the whole.
func (p *Proposal) cut(n int) {
	if n >= len(p.Tokens) {
		return
	}
	p.Tokens, p.Origin = p.Tokens[:n], p.Origin[:n]
	if p.Parents != nil {
		p.Parents = p.Parents[:n]
	}
	if p.Q != nil {
		p.Q = p.Q[:n]
	}
}
