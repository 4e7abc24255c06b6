package llama

import (
	"math"

	"triforce/model"
)

// Logits is the scores of the rows of a sequence that wanted them. The zero
// value is ready for use; it belongs to whoever runs passes of the sequence.
type Logits struct {
	// States says that the states of those rows are wanted too.
	States bool

	vocab  int
	scores model.Acts // (rows so far, HeadRows)
	spread []float32  // (rows so far, Vocab), of a trimmed head
	states []float32  // (rows so far, Dim), if wanted
	dim    int
}

// Row returns the scores (Vocab) of the i-th row that wanted them. Tokens that a
// trimmed head lacks have the score -Inf.
func (l *Logits) Row(i int) []float32 {
	if l.spread != nil {
		return l.spread[i*l.vocab : (i+1)*l.vocab]
	}
	return l.scores.Row(i, l.vocab)
}

// State returns the final hidden state (Dim), as the output head takes it, of the
// i-th row that wanted scores.
func (l *Logits) State(i int) []float32 { return l.states[i*l.dim : (i+1)*l.dim] }

// fit makes room for the scores of so many rows, of most: when it has to grow, for
// half of those or all, since what is not written to costs no memory, but what is
// left behind does.
func (l *Logits) fit(m *Model, rows, most int) {
	if l.dim = m.Dim; l.States && len(l.states) < rows*m.Dim {
		l.states = make([]float32, max(rows, (most+1)/2)*m.Dim)
	}
	if l.vocab > 0 && rows*l.scores.Width <= len(l.scores.F) {
		return
	}
	if half := (most + 1) / 2; rows > half {
		rows = most
	} else if l.vocab > 0 {
		rows = half
	}
	l.vocab = m.Vocab
	l.scores = model.NewActs(max(rows, 1), m.HeadRows())
	if m.Head == nil {
		return
	}
	l.spread = make([]float32, max(rows, 1)*m.Vocab)
	none := float32(math.Inf(-1))
	for i := range l.spread {
		l.spread[i] = none
	}
}
