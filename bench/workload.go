package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"triforce/demo"
	"triforce/engine"
)

// Workload is a kind of long text with a task, in every length.
type Workload struct {
	Name  string
	Sends string // what, for a person
	// Prompt returns depth+1 tokens: a text cut to length, with the task after
	// it.
	Prompt func(depth int) ([]int32, error)
}

// ErrShort marks a text that has fewer tokens than were asked for.
var ErrShort = errors.New("the text is too short")

// Encoder turns text into tokens, as engine.File does.
type Encoder interface{ Encode(text string) []int32 }

// Text is what a workload reads.
type Text struct {
	Name string // of the file or folder
	Body string
	Task string // the question that comes with it, or ""
}

// Kinds names the workloads.
func Kinds() []string { return []string{"book", "question", "needle", "code", "extract"} }

// tasks are what follows the text, by the workload's kind, and what the
// workload says of itself. A question that comes with the text replaces its own.
var tasks = map[string]struct{ task, says string }{
	"book":     {"", "its beginning, to be continued"},
	"code":     {"", "source files one after another, the last one to be completed"},
	"question": {"\n\nQuestion: Who is the narrator, and what happened last?\nAnswer:", "its beginning, then a question about it"},
	"extract":  {"\n\nList every person in the text above with one sentence quoted from it.\n1.", "its beginning, then a request to quote from it"},
	"needle":   {"\n\nQuestion: What is the secret number of the lighthouse?\nAnswer: The secret number of the lighthouse is", "its beginning with a sentence hidden in the middle, then a question about that sentence"},
}

// needle is the sentence hidden in the text, and where: the part of the text
// before it.
const (
	needle      = "\n\nThe secret number of the lighthouse is 7481.\n\n"
	needleDepth = 0.5
)

// NewWorkload makes one of the Kinds over a text.
func NewWorkload(kind string, text Text, e Encoder) (*Workload, error) {
	t, ok := tasks[kind]
	if !ok {
		return nil, fmt.Errorf("%w: --workload %s: expected one of %s", engine.ErrUsage, kind, strings.Join(Kinds(), ", "))
	}
	body := e.Encode(text.Body)
	if len(body) == 0 {
		return nil, fmt.Errorf("%w: --file %s: the text has no tokens", engine.ErrUsage, text.Name)
	}
	start := len(e.Encode("")) // what begins every text
	says := t.says
	if text.Task != "" && kind == "question" {
		t.task, says = text.Task, "its beginning, then its own question"
	}
	var task, hidden []int32
	if t.task != "" {
		task = e.Encode(t.task)[start:]
	}
	if kind == "needle" {
		hidden = e.Encode(needle)[start:]
	}
	w := &Workload{Name: kind, Sends: text.Name + ", " + says}
	w.Prompt = func(depth int) ([]int32, error) {
		room := depth + 1 - len(task) - len(hidden)
		if room < 0 { // too short for the task: the end of it
			all := append(append([]int32{}, hidden...), task...)
			return all[len(all)-depth-1:], nil
		}
		if len(body) < room {
			return nil, fmt.Errorf("%w: %s with its task has %d tokens, expected %d", ErrShort, text.Name, len(body)+depth+1-room, depth+1)
		}
		at := room
		if hidden != nil {
			at = int(needleDepth * float64(room))
		}
		prompt := append([]int32{}, body[:at]...)
		prompt = append(prompt, hidden...)
		prompt = append(prompt, body[at:room]...)
		return append(prompt, task...), nil
	}
	return w, nil
}

// A story's tales are this long, and written at this temperature: warm enough
// that the model does not run in circles.
const (
	taleTokens = 2048
	taleTemp   = 0.8
)

// Story is text to read where there is no file: tales of some 2,000 tokens that
// the model writes itself, all with the same opening, the i-th with seed i. It
// is the same for every run of a model on a machine. A model predicts its own
// text better than others', so speculation looks a little better on it.
func Story(ctx context.Context, e *engine.Engine, n int, progress func(done, total int)) (*Workload, error) {
	opening := e.File().Encode(demo.Opening)
	opening = opening[:min(len(opening), n, e.Options().Context)]
	text := make([]int32, 0, n)
	s := e.NewSession()
	defer s.Close()
	for seed := uint64(0); len(text) < n; seed++ {
		text = append(text, opening...)
		if len(text) >= n {
			break
		}
		g := engine.GenDefaults()
		g.Predict = min(taleTokens, max(0, n-len(text)), e.Options().Context-len(opening))
		g.IgnoreEOS, g.Sample.Temp, g.Sample.Seed = true, taleTemp, seed
		_, err := s.Generate(ctx, opening, g, func(t engine.Token) error {
			if t.ID >= 0 {
				text = append(text, t.ID)
				if progress != nil {
					progress(min(len(text), n), n)
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	w := &Workload{Name: "story", Sends: "tales that the model wrote itself at temperature 0.8, to be continued"}
	w.Prompt = func(depth int) ([]int32, error) {
		if depth >= len(text) {
			return nil, fmt.Errorf("%w: the story has %d tokens, expected %d", ErrShort, len(text), depth+1)
		}
		return text[:depth+1], nil
	}
	return w, nil
}
