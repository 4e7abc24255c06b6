package speculate

// branch adds the last token of the history, which was drawn from row, to the
// tree that is being proposed, followed by its siblings: the next candidates of
// the same draw, which were free to have, as the row was there.
func (l *Level) branch(row []float32) {
	position := len(l.steps) - 1
	width := 1
	if position < len(l.Branches) {
		width = l.Branches[position]
	}
	history, token := l.history[:len(l.history)-1], l.history[len(l.history)-1]
	first := len(l.tree.Tokens)
	if l.rule == Coupled {
		l.tree.Tokens = l.sampler.Rank(l.tree.Tokens, row, history, max(width, 1))
	} else {
		l.tree.Tokens = append(l.tree.Tokens, token)
		l.offered.Set(&l.dists[position])
		for range width - 1 {
			if !l.offered.Remove(token) {
				break
			}
			token = l.dice.draw(&l.offered)
			l.tree.Tokens = append(l.tree.Tokens, token)
		}
	}
	for range l.tree.Tokens[first:] {
		l.tree.Parents = append(l.tree.Parents, l.trunk)
		l.tree.Origin = append(l.tree.Origin, l.Origin)
		if l.rule == Rejection {
			l.tree.Q = append(l.tree.Q, l.dists[position])
		}
	}
	l.trunk = int32(first) // only the first of a position's candidates is continued
}
