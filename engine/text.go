package engine

import (
	"bytes"

	"triforce/tokenizer"
)

// textStream turns tokens into text that is ready to be shown: it holds back
// the beginning of a character and what may become a stop string.
type textStream struct {
	decoder *tokenizer.Decoder
	stops   [][]byte
	buf     []byte // shown, then ready, then held back
	ready   int    // buf[:ready] was returned by the last call
	stopped bool
}

func newTextStream(v *tokenizer.Vocab, stops []string) *textStream {
	t := &textStream{decoder: tokenizer.NewDecoder(v, tokenizer.DecodeOptions{Continues: true})}
	for _, s := range stops {
		t.stops = append(t.stops, []byte(s))
	}
	return t
}

// next returns what the token completes, valid until the next call, and whether
// the text has reached a stop string. Nothing follows a stop string.
func (t *textStream) next(id int32) ([]byte, bool) {
	t.drop()
	t.buf = t.decoder.Append(t.buf, id)
	return t.show(false)
}

// rest returns the text held back, when no token follows.
func (t *textStream) rest() []byte {
	if t.stopped {
		return nil
	}
	t.drop()
	t.buf = t.decoder.Flush(t.buf)
	text, _ := t.show(true)
	return text
}

// drop forgets what was returned.
func (t *textStream) drop() {
	t.buf = t.buf[:copy(t.buf, t.buf[t.ready:])]
	t.ready = 0
}

// show returns the text before the first stop string, or else as much as
// cannot become one; at the end that is all.
func (t *textStream) show(end bool) ([]byte, bool) {
	t.ready = len(t.buf)
	for _, stop := range t.stops {
		if i := bytes.Index(t.buf[:t.ready], stop); i >= 0 {
			t.ready, t.stopped = i, true
		}
	}
	if !t.stopped && !end {
		t.ready -= t.undecided()
	}
	return t.buf[:t.ready], t.stopped
}

// undecided counts the bytes at the end of the text that begin a stop string.
func (t *textStream) undecided() int {
	longest := 0
	for _, stop := range t.stops {
		for n := min(len(stop)-1, len(t.buf)); n > longest; n-- {
			if bytes.HasSuffix(t.buf, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}
