package engine

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/nikolalohinski/gonja/v2/builtins"
	"github.com/nikolalohinski/gonja/v2/config"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/loaders"

	"triforce/tokenizer"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string // "system", "user" or "assistant"
	Content string
}

// HasChat reports whether the model carries a chat template.
func (f *File) HasChat() bool { return f.tokenizer.Vocab().ChatTemplate() != "" }

// Chat appends the tokens of a conversation, laid out by the model's own
// template up to where the assistant's turn begins. now is for templates that
// tell the model the date. Errors wrap ErrTemplate.
func (f *File) Chat(dst []int32, messages []Message, now time.Time) ([]int32, error) {
	vocab := f.tokenizer.Vocab()
	text, err := renderChat(vocab, messages, now)
	if err != nil {
		return dst, fmt.Errorf("%s: %w: %w", f.Name(), ErrTemplate, err)
	}
	o := tokenizer.Options{Marks: tokenizer.MarksNone, Special: true}
	if vocab.AddsBOS() && !strings.HasPrefix(text, vocab.Token(vocab.BOS())) {
		o.Marks = tokenizer.MarksBOS
	}
	return f.tokenizer.Encode(dst, text, o), nil
}

// renderChat executes the template of v, which comes with the model and is not
// trusted: it sees the conversation and no files, and what goes wrong in it is
// an error.
func renderChat(v *tokenizer.Vocab, messages []Message, now time.Time) (text string, err error) {
	if v.ChatTemplate() == "" {
		return "", errors.New("the model carries none")
	}
	defer func() {
		if r := recover(); r == errEndless {
			err = errEndless
		} else if r != nil {
			err = fmt.Errorf("the template interpreter failed: %v", r)
		}
	}()
	const name = "/chat_template"
	source, err := loaders.NewMemoryLoader(map[string]string{name: v.ChatTemplate()})
	if err != nil {
		return "", err
	}
	// The settings under which chat templates are written.
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true
	template, err := exec.NewTemplate(name, settings, source, &exec.Environment{
		Context:           builtins.GlobalFunctions.Inherit().Update(builtins.GlobalVariables),
		Filters:           builtins.Filters,
		Tests:             builtins.Tests,
		ControlStructures: builtins.ControlStructures,
		Methods:           builtins.Methods,
	})
	if err != nil {
		return "", reason(err)
	}
	var list []any
	for _, m := range messages {
		list = append(list, map[string]any{"role": m.Role, "content": m.Content})
	}
	var out strings.Builder
	err = template.Execute(&limited{&out, maxChat + 4*size(messages)}, exec.NewContext(map[string]any{
		"messages":              list,
		"bos_token":             v.Token(v.BOS()),
		"eos_token":             v.Token(v.EOS()),
		"add_generation_prompt": true,
		"range":                 boundedRange,
		"raise_exception":       func(s string) (string, error) { return "", errors.New(s) },
		"strftime_now":          func(layout string) string { return strftime(now, layout) },
	}))
	if err != nil {
		return "", reason(err)
	}
	return out.String(), nil
}

// reason is the innermost error: those around it quote the whole template.
func reason(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return err
}

// maxChat is how much text a template may add to a conversation.
const maxChat = 1 << 20

func size(messages []Message) int {
	n := 0
	for _, m := range messages {
		n += len(m.Content)
	}
	return n
}

// errEndless is what a template is stopped with.
var errEndless = errors.New("the template writes without end")

// limited is a writer of at most left bytes. After them it panics with
// errEndless, because the interpreter goes on after an error.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		panic(errEndless)
	}
	l.left -= len(p)
	return l.w.Write(p)
}

// maxRange is how many numbers a template may count.
const maxRange = 1 << 16

// boundedRange is Python's range(stop), (start, stop) or (start, stop, step).
// The interpreter's own has no bound, and loops make its numbers beforehand.
func boundedRange(args ...int) ([]int, error) {
	start, stop, step := 0, 0, 1
	switch len(args) {
	case 1:
		stop = args[0]
	case 2:
		start, stop = args[0], args[1]
	case 3:
		start, stop, step = args[0], args[1], args[2]
	}
	if len(args) < 1 || len(args) > 3 || step == 0 {
		return nil, fmt.Errorf("range%v: expected stop, start and stop, or start, stop and a step other than 0", args)
	}
	var list []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(list) == maxRange {
			return nil, fmt.Errorf("range%v: more than %d numbers", args, maxRange)
		}
		list = append(list, i)
	}
	return list, nil
}

// strftime writes a time as C's function of that name does; of its conversions
// it knows those of dates and times of day in English.
func strftime(t time.Time, layout string) string {
	layouts := map[byte]string{
		'Y': "2006", 'y': "06", 'm': "01", 'd': "02", 'e': "_2", 'B': "January", 'b': "Jan", 'h': "Jan",
		'A': "Monday", 'a': "Mon", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'j': "002",
		'F': "2006-01-02", 'T': "15:04:05", 'R': "15:04", 'D': "01/02/06", 'Z': "MST", 'z': "-0700",
	}
	var out strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' || i+1 == len(layout) {
			out.WriteByte(layout[i])
			continue
		}
		i++
		if l, ok := layouts[layout[i]]; ok {
			out.WriteString(t.Format(l))
		} else if layout[i] == '%' {
			out.WriteByte('%')
		} else {
			out.WriteString(layout[i-1 : i+1])
		}
	}
	return out.String()
}
