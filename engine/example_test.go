package engine_test

import (
	"context"
	"fmt"
	"log"

	"triforce/engine"
)

// Open a model, generate from a prompt and take the text as it comes.
func Example() {
	ctx := context.Background()
	e, err := engine.Open(ctx, "", engine.Defaults()) // "" is the embedded model
	if err != nil {
		log.Fatal(err)
	}
	defer e.Close()
	s := e.NewSession()
	defer s.Close()

	o := engine.GenDefaults()
	o.Sample.Temp = 0 // greedy
	o.Predict = 16
	prompt := e.File().Encode("One day, a little boy named Tim went to the park. He")
	result, err := s.Generate(ctx, prompt, o, func(t engine.Token) error {
		fmt.Printf("%s", t.Text)
		return nil
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("\n%d tokens, stopped by %s\n", result.Predicted, result.Stop)
	// Output:
	// saw a big red balloon. He wanted to play with it, but it
	// 16 tokens, stopped by length
}
