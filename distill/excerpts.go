package distill

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/cespare/xxhash/v2"
)

// excerpt is a piece of text, of up to Length tokens, which stands for itself:
// its first tokens are sinks.
type excerpt []int32

// hash names an excerpt.
func (x excerpt) hash() uint64 {
	h := xxhash.New()
	_ = binary.Write(h, binary.LittleEndian, []int32(x))
	return h.Sum64()
}

// pool is the excerpts of one kind of text. The last are kept back; the others
// are in random order, and the first of them, to labelled, have labels.
type pool struct {
	train, held []excerpt
	labelled    int
}

// Least numbers of excerpts, and how many are kept back.
const (
	leastHeld  = 2
	mostHeld   = 16
	heldShare  = 50 // one of so many
	leastTrain = 6
)

// cut makes excerpts of texts; what is left at the end of a text and shorter
// than a quarter of an excerpt is dropped.
func cut(texts [][]int32, length int) []excerpt {
	var all []excerpt
	for _, text := range texts {
		for len(text) >= length/4 {
			n := min(length, len(text))
			all = append(all, excerpt(text[:n]))
			text = text[n:]
		}
	}
	return all
}

// newPool keeps the last excerpts back, which are the end of the last text, and
// shuffles the others.
func newPool(all []excerpt, seed uint64) (pool, error) {
	held := min(max(len(all)/heldShare, leastHeld), mostHeld)
	if len(all)-held < leastTrain {
		return pool{}, fmt.Errorf("%d excerpts, expected at least %d", len(all), leastTrain+leastHeld)
	}
	p := pool{train: append([]excerpt(nil), all[:len(all)-held]...), held: all[len(all)-held:]}
	r := rand.New(rand.NewPCG(seed, 1))
	r.Shuffle(len(p.train), func(i, j int) { p.train[i], p.train[j] = p.train[j], p.train[i] })
	return p, nil
}
