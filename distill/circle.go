package distill

import "errors"

// errCircle says that a text goes round in circles.
var errCircle = errors.New("circle")

// A small model likes to write "the better society, the better democracy" on to the
// end, of which there is nothing more to learn: a text is over when of its newest
// circleWindow tokens more than circleMost had followed the same two before.
const (
	circleWindow = 64
	circleMost   = 44
)

// circle watches a text for that.
type circle struct {
	seen  map[[3]int32]bool
	again [circleWindow]bool // of the newest tokens
	count int                // of them
	read  int                // tokens of the text
}

// closes reads what is new of the text and reports whether it goes round in circles.
func (c *circle) closes(text []int32) bool {
	if c.seen == nil {
		c.seen = map[[3]int32]bool{}
	}
	for ; c.read < len(text); c.read++ {
		if c.read < 2 {
			continue
		}
		three, again := [3]int32(text[c.read-2:]), &c.again[c.read%circleWindow]
		if *again {
			c.count--
		}
		if *again = c.seen[three]; *again {
			c.count++
		}
		c.seen[three] = true
	}
	return c.count > circleMost
}
