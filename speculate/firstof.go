package speculate

import "context"

// FirstOf asks drafters in turn and takes the first proposal there is.
type FirstOf []Drafter

// Reset adopts the history of a new request.
func (f FirstOf) Reset(r Request) {
	for _, d := range f {
		d.Reset(r)
	}
}

// Draft is the first proposal that is not empty.
func (f FirstOf) Draft(ctx context.Context, n int, bar Bar) (Proposal, error) {
	for _, d := range f {
		if p, err := d.Draft(ctx, n, bar); err != nil || len(p.Tokens) > 0 {
			return p, err
		}
	}
	return Proposal{}, nil
}

// Accept makes the history its first base tokens, then kept.
func (f FirstOf) Accept(base int, kept []int32) {
	for _, d := range f {
		d.Accept(base, kept)
	}
}

// Commit says that the first n tokens of the history are final.
func (f FirstOf) Commit(n int) {
	for _, d := range f {
		d.Commit(n)
	}
}
