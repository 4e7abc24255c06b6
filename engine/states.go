package engine

// states are the newest states of a target along a session's history (model.Batch):
// what its passes found, over the full cache or a view, for a draft that takes them;
// or those of the draft itself. nil is those that nobody takes.
type states struct {
	dim      int
	rows     []float32 // (stateRows, dim): that of position p is in row p modulo stateRows
	from, to int       // the positions that are there
}

// stateRows is a power of two, and more than the tokens of a round.
const stateRows = 256

func newStates(dim int) *states { return &states{dim: dim, rows: make([]float32, stateRows*dim)} }

func (s *states) row(p int) []float32 {
	at := p % stateRows * s.dim
	return s.rows[at : at+s.dim]
}

// put keeps the state after the token at position p.
func (s *states) put(p int, state []float32) {
	if p > s.to {
		s.from = p
	}
	s.to = max(s.to, p+1)
	s.from = max(min(s.from, p), s.to-stateRows)
	copy(s.row(p), state)
}

// before is the state after the token before position p, or nil.
func (s *states) before(p int) []float32 {
	if s == nil || p <= s.from || p > s.to {
		return nil
	}
	return s.row(p - 1)
}

// truncate forgets all but the first n positions.
func (s *states) truncate(n int) {
	if s == nil {
		return
	}
	s.to = min(s.to, n)
	s.from = min(s.from, s.to)
}
