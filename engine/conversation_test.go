package engine

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"triforce/internal/testutil/tiny"
)

const tinyChat = "{% for m in messages %}{{ m.role }}:{{ m.content }}</s>{% endfor %}assistant:"

// TestConversation talks for a few turns. The session must read what is new
// and nothing else, even though the answers of a random model are cut into
// other tokens than those that it generated, and some are no valid text.
func TestConversation(t *testing.T) {
	for name, path := range map[string]string{
		"chat, sentencepiece": tiny.Model(t, tiny.Options{Chat: tinyChat}),
		"chat, byte-level":    tiny.Model(t, tiny.Options{Chat: tinyChat, Vocab: tiny.ByteLevel}),
		"story":               tiny.Model(t, tiny.Options{}),
		"embedded":            "",
	} {
		t.Run(name, func(t *testing.T) {
			o := Defaults()
			o.Threads = 1
			e, err := Open(context.Background(), path, o)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			s := e.NewSession()
			defer s.Close()
			c := e.File().NewConversation(time.Now())
			gen := GenDefaults()
			gen.Predict, gen.IgnoreEOS = 20, true
			gen.Sample.Temp, gen.Sample.TopK, gen.Sample.TopP, gen.Sample.MinP = 5, 0, 1, 0 // hardly what the text would be cut into
			var before, prompt []int32
			var recut bool
			for turn := range 4 {
				c.Messages = append(c.Messages, Message{Role: "user", Content: " Once upon a time."})
				if prompt, err = c.Prompt(); err != nil {
					t.Fatal(err)
				}
				if len(prompt) <= len(before) || !slices.Equal(prompt[:len(before)], before) {
					t.Fatalf("turn %d: the prompt does not go on from what was seen", turn)
				}
				var ids []int32
				var said strings.Builder
				gen.Sample.Seed = uint64(turn)
				result, err := s.Generate(context.Background(), prompt, gen, func(t Token) error {
					said.Write(t.Text)
					if t.ID >= 0 {
						ids = append(ids, t.ID)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				// The last token of a turn was drawn but not yet read.
				if want := max(len(before)-1, 0); result.Cached != want || result.Read != len(prompt)-1-want {
					t.Errorf("turn %d: %d of %d tokens were in the cache and %d were read; expected %d", turn, result.Cached, len(prompt), result.Read, want)
				}
				c.Answer(prompt, ids, said.String())
				before = append(slices.Clone(prompt), ids...)
				whole, _, _ := c.layout()
				recut = recut || !slices.Equal(e.File().Encode(whole), before)
			}
			if !recut {
				t.Error("every answer was cut into the tokens that were generated: the test shows nothing")
			}

			// Another answer instead of the last goes on from the same tokens.
			c.Messages = c.Messages[:len(c.Messages)-1]
			if again, err := c.Prompt(); err != nil || !slices.Equal(again, prompt) {
				t.Errorf("the prompt of another answer differs; %v", err)
			}
		})
	}
}

// TestConversationEnds joins answers that ended by themselves with templates
// that write what ends an answer, and with those that change it.
func TestConversationEnds(t *testing.T) {
	for name, c := range map[string]struct {
		template string
		goesOn   bool
	}{
		"the same end":  {tinyChat, true},
		"another end":   {"{% for m in messages %}{{ m.role }}:{{ m.content }}<end>{% endfor %}assistant:", true},
		"other text":    {"{% for m in messages %}{{ m.role }}:{{ m.content | trim | upper }}</s>{% endfor %}assistant:", false},
		"fewer answers": {"{{ messages[-1].content }}</s>", false},
	} {
		f, err := OpenFile(tiny.Model(t, tiny.Options{Chat: c.template}), Rope{})
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		conv := f.NewConversation(time.Now())
		conv.Messages = []Message{{"user", "one"}}
		prompt, err := conv.Prompt()
		if err != nil {
			t.Fatal(err)
		}
		generated := append(f.Encode(" a b")[1:], f.Tokenizer().Vocab().EOS())
		conv.Answer(prompt, generated, " a b")
		conv.Messages = append(conv.Messages, Message{"user", "two"})
		next, err := conv.Prompt()
		if err != nil {
			t.Fatal(err)
		}
		seen := append(slices.Clone(prompt), generated...)
		if name == "another end" {
			seen = seen[:len(seen)-1]
		}
		if goesOn := len(next) > len(seen) && slices.Equal(next[:len(seen)], seen); goesOn != c.goesOn {
			t.Errorf("%s: the prompt goes on from what was seen: %v", name, goesOn)
		}
		if want, err := f.Chat(nil, conv.Messages, conv.Began); !c.goesOn && (err != nil || !slices.Equal(next, want)) {
			t.Errorf("%s: %v, expected %v, %v", name, next, want, err)
		}
	}
}

func TestRestoreConversation(t *testing.T) {
	open := func(o tiny.Options) *File {
		f, err := OpenFile(tiny.Model(t, o), Rope{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	f, other := open(tiny.Options{Chat: tinyChat}), open(tiny.Options{Chat: tinyChat, Layers: 1})
	c := f.NewConversation(time.Date(2024, 3, 9, 0, 0, 0, 0, time.UTC))
	c.Messages = []Message{{"user", "one"}}
	prompt, _ := c.Prompt()
	c.Answer(prompt, []int32{7, 8, 9}, "x")
	c.Messages = append(c.Messages, Message{"user", "two"})
	want, _ := c.Prompt()
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, same, err := f.RestoreConversation(data)
	if err != nil || !same || !slices.Equal(again.Messages, c.Messages) {
		t.Fatalf("%+v, %v, %v", again, same, err)
	}
	if got, err := again.Prompt(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; expected %v", got, err, want)
	}
	stranger, same, err := other.RestoreConversation(data)
	if err != nil || same || !slices.Equal(stranger.Messages, c.Messages) || stranger.seen != nil {
		t.Errorf("%+v, %v, %v", stranger, same, err)
	}
	for bad, why := range map[string]string{
		"{":                              "JSON",
		`{"messages":[{"role":"tool"}]}`: "role",
		strings.Replace(string(data), "7,8,9", "7,8,-9", 1):    "outside the vocabulary",
		strings.Replace(string(data), "7,8,9", "7,8,99999", 1): "outside the vocabulary",
	} {
		if _, _, err := f.RestoreConversation([]byte(bad)); err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%.60s: %v, expected %q", bad, err, why)
		}
	}
}

func FuzzRestoreConversation(f *testing.F) {
	path := f.TempDir() + "/tiny.gguf"
	if err := tiny.WriteFile(path, tiny.Options{Chat: tinyChat}); err != nil {
		f.Fatal(err)
	}
	file, err := OpenFile(path, Rope{})
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	c := file.NewConversation(time.Unix(0, 0))
	c.Messages = []Message{{"user", "one"}}
	c.Answer([]int32{1, 2}, []int32{2}, "x")
	seed, _ := json.Marshal(c)
	f.Add(seed)
	f.Add([]byte(`{"model":"","messages":[],"seen":[{"text":"","tokens":[1]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := file.RestoreConversation(data)
		if err != nil {
			return
		}
		c.Messages = append(c.Messages, Message{"user", "two"})
		ids, err := c.Prompt()
		if err != nil {
			return
		}
		for _, id := range ids {
			if id < 0 || int(id) >= file.Tokenizer().Vocab().Size() {
				t.Errorf("token %d", id)
			}
		}
	})
}
