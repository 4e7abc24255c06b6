package speculate

import (
	"slices"
	"time"
)

// Stats count what a level did since Reset. A level without drafters has passes
// only.
type Stats struct {
	Name     string
	Passes   int     // of the verifier
	Rows     int     // tokens in those passes
	Rounds   int     // in which tokens were proposed to this level
	Proposed int     // tokens proposed to this level
	Accepted int     // of them
	Rejected int     // rounds in which one was rejected; what followed it was not judged
	Seconds  float64 // in passes of the verifier, and in readying its cache

	// By position in the proposal, the first one first: in how many rounds the
	// proposal got that far, and in how many it was accepted that far.
	ProposedAt, AcceptedAt []int

	// By the lead of the tokens that this level drafted, see Leads: how many of
	// them were judged above, and how many accepted.
	Judged, Trusted [grades]int
}

// Leads are the leads that separate those that Stats tells apart, in logits.
func Leads() []float64 { return gradeLeads[:] }

// MeanAcceptance is the mean number of tokens that a round with a proposal
// yields: the accepted ones and the level's own. It is 1 when there was none.
func (s *Stats) MeanAcceptance() float64 {
	if s.Rounds == 0 {
		return 1
	}
	return 1 + float64(s.Accepted)/float64(s.Rounds)
}

// Stats is a copy of what was counted since Reset.
func (l *Level) Stats() Stats {
	s := l.stats
	s.ProposedAt, s.AcceptedAt = slices.Clone(s.ProposedAt), slices.Clone(s.AcceptedAt)
	return s
}

// PassSeconds is the estimated cost of a pass over rows tokens: with rows = 1,
// of a token by plain decoding. It is 0 before any pass was timed.
func (l *Level) PassSeconds(rows int) float64 {
	if !l.control.pass.known() {
		return 0
	}
	return l.control.pass.at(float64(rows))
}

func (s *Stats) pass(rows int, spent time.Duration) {
	s.Passes++
	s.Rows += rows
	s.Seconds += spent.Seconds()
}

func (s *Stats) round(o outcome) {
	if o.nodes == 0 {
		return
	}
	s.Rounds++
	s.Proposed += o.nodes
	s.Accepted += o.accepted
	if o.accepted < o.offered {
		s.Rejected++
	}
	for len(s.ProposedAt) < o.offered {
		s.ProposedAt, s.AcceptedAt = append(s.ProposedAt, 0), append(s.AcceptedAt, 0)
	}
	for i := range o.offered {
		s.ProposedAt[i]++
	}
	for i := range o.accepted {
		s.AcceptedAt[i]++
	}
}
