package bench

import (
	"context"

	"triforce/demo"
	"triforce/engine"
)

// storyTemp is the temperature of the text that a model writes for itself: warm
// enough that it does not run in circles.
const storyTemp = 0.8

// Story is n tokens to read where there is no file: the opening of a tale that
// the model continues itself, at temperature 0.8 with seed 0. It is the same
// for every run of a model on a machine. A model predicts its own text better
// than others', so speculation looks a little better on it.
func Story(ctx context.Context, e *engine.Engine, n int, progress func(done, total int)) ([]int32, error) {
	text := e.File().Encode(demo.Opening)
	if len(text) >= n {
		return text[:n], nil
	}
	g := engine.GenDefaults()
	g.Predict, g.IgnoreEOS, g.Sample.Temp, g.Sample.Seed = n-len(text), true, storyTemp, 0
	s := e.NewSession()
	defer s.Close()
	_, err := s.Generate(ctx, text, g, func(t engine.Token) error {
		if t.ID >= 0 {
			text = append(text, t.ID)
			if progress != nil {
				progress(len(text), n)
			}
		}
		return nil
	})
	return text, err
}
