package engine

import (
	"context"
	"encoding/json"
	"os"
	"testing"
)

// golden is what an independent implementation in float32 says about a model.
type golden struct {
	Cases []struct {
		Name      string  `json:"name"`
		Prompt    string  `json:"prompt"`
		PromptIDs []int32 `json:"prompt_ids"`
		Top20     struct {
			IDs    []int32   `json:"ids"`
			Logits []float64 `json:"logits"`
		} `json:"top20"`
		GreedyIDs []int32   `json:"greedy_ids"`
		GreedyGap []float64 `json:"greedy_gap"`
	} `json:"cases"`
	NLL struct {
		TextIDs []int32 `json:"text_ids"`
		Mean    float64 `json:"mean_nll"`
	} `json:"nll"`
}

// pairGolden is the same for a target and its draft.
type pairGolden struct {
	Target golden `json:"target"`
	Draft  golden `json:"draft"`
}

func readGolden(t testing.TB, path string, into any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
}

// open loads a model for a test; "" is the embedded one.
func open(t testing.TB, path string, change func(*Options)) *Engine {
	t.Helper()
	o := Defaults()
	if change != nil {
		change(&o)
	}
	e, err := Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e
}

// greedy returns options that take the most probable of n tokens, whatever
// they are.
func greedy(n int) GenOptions {
	o := GenDefaults()
	o.Sample.Temp, o.Predict, o.IgnoreEOS = 0, n, true
	return o
}

// generate returns the tokens that a new session writes.
func generate(t testing.TB, e *Engine, prompt []int32, o GenOptions) []int32 {
	t.Helper()
	s := e.NewSession()
	defer s.Close()
	var ids []int32
	if _, err := s.Generate(context.Background(), prompt, o, func(tok Token) error {
		if tok.ID >= 0 {
			ids = append(ids, tok.ID)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return ids
}
