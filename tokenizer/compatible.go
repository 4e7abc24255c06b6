package tokenizer

import (
	"errors"
	"fmt"
)

// ErrMismatch marks a draft vocabulary that is not the target's.
var ErrMismatch = errors.New("different vocabularies")

// Compatible reports whether a draft model may propose tokens to a target: the
// two vocabularies are equal up to the length of the shorter. The longer tail
// of the other is padding, or tokens that only one of them ever draws. The
// error names both sizes and the first token that differs.
func Compatible(target, draft *Vocab) error {
	for i := range int32(min(target.Size(), draft.Size())) {
		if target.Token(i) != draft.Token(i) {
			return fmt.Errorf("tokenizer: %w: the target has %d tokens, the draft %d; token %d is %q in the target and %q in the draft",
				ErrMismatch, target.Size(), draft.Size(), i, clip(target.Token(i)), clip(draft.Token(i)))
		}
	}
	return nil
}
