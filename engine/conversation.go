package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Conversation is a chat with a model, or a text that it and a user write in
// turn where the model carries no template. It knows which tokens the model has
// seen: another answer goes on from those, so that a session reads only what is
// new, even where the text of an answer would be cut into other tokens.
//
// It belongs to one goroutine.
type Conversation struct {
	file *File
	// Messages are the turns so far; whoever changes them calls Prompt next.
	Messages []Message
	// Began is the time that templates are told.
	Began time.Time

	prompt string // of the last Prompt, as text
	seen   []seen // the tokens of the latest turns, the newest first
}

// maxSeen is how many of them are kept: an answer that is taken back is not
// generated from older tokens than need be.
const maxSeen = 8

// seen is tokens and the text that they stand for.
type seen struct {
	Text   string  `json:"text"`
	Tokens []int32 `json:"tokens"`
}

// NewConversation starts an empty one.
func (f *File) NewConversation(now time.Time) *Conversation {
	return &Conversation{file: f, Began: now}
}

// Prompt returns the tokens of the messages, laid out by the model's template
// up to where its answer begins, or else as one text. Errors wrap ErrTemplate.
func (c *Conversation) Prompt() ([]int32, error) {
	text, encode, err := c.layout()
	if err != nil {
		return nil, err
	}
	c.prompt = text
	ids := encode(text)
	for _, s := range c.seen {
		if !strings.HasPrefix(text, s.Text) {
			continue
		}
		old := encode(s.Text)
		if len(old) <= len(ids) && slices.Equal(old, ids[:len(old)]) {
			return append(slices.Clone(s.Tokens), ids[len(old):]...), nil
		}
	}
	return ids, nil
}

// layout returns the text of the messages and how it becomes tokens.
func (c *Conversation) layout() (string, func(string) []int32, error) {
	if !c.file.HasChat() {
		var text strings.Builder
		for _, m := range c.Messages {
			text.WriteString(m.Content)
		}
		return text.String(), c.file.Encode, nil
	}
	text, err := c.file.ChatText(c.Messages, c.Began)
	if err != nil {
		return "", nil, err
	}
	marks := c.file.chatMarks(text)
	return text, func(s string) []int32 { return c.file.encodeChat(nil, s, marks) }, nil
}

// Answer takes the model's answer to the last Prompt, whose tokens those were,
// as the next message.
func (c *Conversation) Answer(prompt, generated []int32, text string) {
	c.Messages = append(c.Messages, Message{Role: "assistant", Content: text})
	all := append(slices.Clone(prompt), generated...)
	newest := []seen{{c.prompt + text, all}}
	vocab := c.file.tokenizer.Vocab()
	if n := len(generated); n > 0 && vocab.IsEOG(generated[n-1]) {
		// Templates write what ends an answer, but not each the same.
		newest[0].Tokens = all[:len(all)-1]
		newest = slices.Insert(newest, 0, seen{c.prompt + text + vocab.Token(generated[n-1]), all})
	}
	c.seen = slices.Concat(newest, c.seen[:min(len(c.seen), maxSeen)])
}

// saved is a conversation in a file.
type saved struct {
	Model    string    `json:"model"` // its fingerprint
	Began    time.Time `json:"began"`
	Messages []Message `json:"messages"`
	Seen     []seen    `json:"seen"`
}

// MarshalJSON writes what RestoreConversation reads.
func (c *Conversation) MarshalJSON() ([]byte, error) {
	return json.Marshal(saved{c.file.Fingerprint(), c.Began, c.Messages, c.seen})
}

// RestoreConversation reads what MarshalJSON wrote. Of a conversation with
// another model only the messages count; same says whether it is this one.
func (f *File) RestoreConversation(data []byte) (c *Conversation, same bool, err error) {
	var s saved
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, false, fmt.Errorf("engine: conversation: %w", err)
	}
	for i, m := range s.Messages {
		if m.Role != "system" && m.Role != "user" && m.Role != "assistant" {
			return nil, false, fmt.Errorf("engine: conversation: message %d has the role %.20q; expected system, user or assistant", i, m.Role)
		}
	}
	c = &Conversation{file: f, Messages: s.Messages, Began: s.Began}
	if s.Model != f.Fingerprint() {
		return c, false, nil
	}
	vocab := int32(f.tokenizer.Vocab().Size())
	for _, v := range s.Seen {
		for i, id := range v.Tokens {
			if id < 0 || id >= vocab {
				return nil, true, fmt.Errorf("engine: conversation: token %d is %d, outside the vocabulary of %d", i, id, vocab)
			}
		}
	}
	c.seen = s.Seen
	return c, true, nil
}
