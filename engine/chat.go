package engine

import (
	"errors"
	"fmt"
	"regexp"
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
	Role    string `json:"role"` // "system", "user" or "assistant"
	Content string `json:"content"`
}

// HasChat reports whether the model carries a chat template.
func (f *File) HasChat() bool { return f.tokenizer.Vocab().ChatTemplate() != "" }

// Chat appends the tokens of a conversation, laid out by the model's own
// template up to where the assistant's turn begins. now is for templates that
// tell the model the date. Errors wrap ErrTemplate.
func (f *File) Chat(dst []int32, messages []Message, now time.Time) ([]int32, error) {
	text, err := f.ChatText(messages, now)
	if err != nil {
		return dst, err
	}
	return f.encodeChat(dst, text, f.chatMarks(text)), nil
}

// ChatText returns the text whose tokens Chat appends.
func (f *File) ChatText(messages []Message, now time.Time) (string, error) {
	text, err := renderChat(f.tokenizer.Vocab(), messages, now)
	if err != nil {
		return "", fmt.Errorf("%s: %w: %w", f.Name(), ErrTemplate, err)
	}
	return text, nil
}

// chatMarks says whether the text of a chat wants a token before it.
func (f *File) chatMarks(text string) tokenizer.Marks {
	vocab := f.tokenizer.Vocab()
	if vocab.AddsBOS() && !strings.HasPrefix(text, vocab.Token(vocab.BOS())) {
		return tokenizer.MarksBOS
	}
	return tokenizer.MarksNone
}

func (f *File) encodeChat(dst []int32, text string, marks tokenizer.Marks) []int32 {
	return f.tokenizer.Encode(dst, text, tokenizer.Options{Marks: marks, Special: true})
}

// ChatOpening returns the tokens of a conversation up to where the user's first
// message begins: what the model goes on with is such a message.
func (f *File) ChatOpening(now time.Time) ([]int32, error) {
	const mark = "\u27e6message\u27e7"
	vocab := f.tokenizer.Vocab()
	text, err := renderChat(vocab, []Message{{Role: "user", Content: mark}}, now)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", f.Name(), ErrTemplate, err)
	}
	before, _, ok := strings.Cut(text, mark)
	if !ok {
		return nil, fmt.Errorf("%s: %w: it leaves out the user's message", f.Name(), ErrTemplate)
	}
	o := tokenizer.Options{Marks: tokenizer.MarksNone, Special: true}
	if vocab.AddsBOS() && !strings.HasPrefix(before, vocab.Token(vocab.BOS())) {
		o.Marks = tokenizer.MarksBOS
	}
	return f.tokenizer.Encode(nil, before, o), nil
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
	if err := checkSource(v.ChatTemplate()); err != nil {
		return "", err
	}
	const name = "/chat_template"
	source, err := loaders.NewMemoryLoader(map[string]string{name: v.ChatTemplate()})
	if err != nil {
		return "", err
	}
	// The settings under which chat templates are written.
	settings := config.New()
	settings.TrimBlocks, settings.LeftStripBlocks = true, true
	most := maxChat + 4*size(messages)
	b := &budget{steps: maxSteps + size(messages), text: most, most: most}
	template, err := exec.NewTemplate(name, settings, source, &exec.Environment{
		Context:           builtins.GlobalFunctions.Inherit().Update(builtins.GlobalVariables),
		Filters:           b.filters(),
		Tests:             builtins.Tests,
		ControlStructures: b.structures(),
		Methods:           b.methods(),
	})
	if err != nil {
		return "", reason(err)
	}
	if err := b.check(template.Root()); err != nil {
		return "", err
	}
	var list turns
	for _, m := range messages {
		list = append(list, map[string]any{"role": m.Role, "content": m.Content})
	}
	var out strings.Builder
	err = template.Execute(&limited{&out, most}, exec.NewContext(map[string]any{
		"messages":              list,
		"bos_token":             v.Token(v.BOS()),
		"eos_token":             v.Token(v.EOS()),
		"add_generation_prompt": true,
		"range":                 b.numbers,
		"lipsum":                nil,
		"raise_exception":       func(s string) (string, error) { return "", errors.New(s) },
		"strftime_now":          func(layout string) string { return strftime(now, layout) },
	}))
	if err != nil {
		return "", reason(err)
	}
	return out.String(), nil
}

// reason is the innermost error, without what checks have passed on: those around
// it quote the whole template.
func reason(err error) error {
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner
	}
	return errors.New(regexp.MustCompile(`unable to evaluate filter &\{<Token\[.*? <[a-z]+> .*?map\[\]\}: |invalid call to filter '<[a-z]+>': `).ReplaceAllString(err.Error(), ""))
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
