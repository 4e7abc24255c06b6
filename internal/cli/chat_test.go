package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"triforce/engine"
	"triforce/internal/testutil/tiny"
)

// typist is a person at a terminal, who types the lines one by one.
type typist struct {
	lines  []string
	before func(line int) // called as each line is awaited
	at     int
	said   []string
}

func (p *typist) Read(ctx context.Context, _ string) (string, error) {
	if p.before != nil {
		p.before(p.at)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if p.at == len(p.lines) {
		return "", io.EOF
	}
	p.at++
	return p.lines[p.at-1], nil
}

func (p *typist) Remember(text string) { p.said = append(p.said, text) }
func (p *typist) Close()               {}

// talk runs a chat with what the typist types and returns its exit code.
func talk(w *world, p *typist, args ...string) int {
	w.OutTerminal = true
	w.Edit = func(string, func(string) []string) Lines { return p }
	return Run(context.Background(), append([]string{"chat", "-t", "1"}, args...), w.System)
}

func env(t *testing.T) map[string]string { return map[string]string{"HOME": t.TempDir()} }

var readPattern = regexp.MustCompile(`prompt +([\d,]+) tokens.*?(?: ([\d,]+) more from the cache)?\n`)

// TestChatReadsOnlyNew: the second message costs its own tokens.
func TestChatReadsOnlyNew(t *testing.T) {
	w := newWorld("", env(t))
	p := &typist{lines: []string{"The king had three sons.", "/stats", "The youngest was called Tom.", "/stats", "", "/stats"}}
	if code := talk(w, p, "--temp", "0", "-n", "40"); code != exitOK {
		t.Fatal(code, w.err.String())
	}
	all := readPattern.FindAllStringSubmatch(w.err.String(), -1)
	if len(all) != 3 || all[0][2] != "" || all[1][2] == "" {
		t.Fatalf("%q in %s", all, w.err.String())
	}
	file, err := engine.OpenFile("", engine.Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	number := func(s string) int {
		n, _ := strconv.Atoi(strings.ReplaceAll(s, ",", ""))
		return n
	}
	first, second := len(file.Encode("The king had three sons.")), len(file.Encode(" The youngest was called Tom."))
	cached := 0
	for i, tokens := range []int{first, second, 0} {
		// The token drawn last is read with what follows.
		if got := number(all[i][1]); got > tokens+1 {
			t.Errorf("answer %d: read %d tokens for %d new ones", i, got, tokens)
		}
		if got := number(all[i][2]); got < cached {
			t.Errorf("answer %d: %d tokens were in the cache, expected %d", i, got, cached)
		}
		cached += tokens + 40 - 2 // a word by itself may have a token more than in a text
	}
	if !slices.Equal(p.said, slices.DeleteFunc(slices.Clone(p.lines), func(s string) bool { return s == "" })) {
		t.Errorf("remembered %q", p.said)
	}
}

// TestChatSameText: what a chat writes in two turns is what generate writes for
// the same text.
func TestChatSameText(t *testing.T) {
	one := func(prompt string) string {
		return (&run{name: "generate", args: []string{"generate", "-t", "1", "--temp", "0", "-n", "12", "--spec", "plain", prompt}, any: true}).test(t).out.String()
	}
	const king = "The king had three sons."
	first := one(king)
	second := one(king + first + " But")
	w := newWorld(king+"\nBut\n", env(t))
	if code := Run(context.Background(), []string{"chat", "-t", "1", "--temp", "0", "-n", "12"}, w.System); code != exitOK {
		t.Fatal(code, w.err.String())
	}
	if got, want := w.out.String(), first+"\n"+second+"\n"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if strings.Count(w.err.String(), "writes stories") != 1 || strings.Contains(w.err.String(), "/help") {
		t.Error(w.err.String())
	}
}

// TestChatInterrupt stops an answer, not the program.
func TestChatInterrupt(t *testing.T) {
	w := newWorld("", env(t))
	out := &interrupter{w: w}
	w.Out = out
	p := &typist{lines: []string{"Once upon a time", "/stats", "and"}}
	p.before = func(line int) { out.armed = line == 0 }
	if code := talk(w, p, "-n", "5000", "--ctx-size", "400", "--temp", "0"); code != exitOK {
		t.Fatal(code, w.err.String())
	}
	if e := w.err.String(); strings.Count(e, "(stopped)") != 1 || !strings.Contains(e, "ended by cancelled") || !strings.Contains(e, "context of 400 tokens is full") {
		t.Error(e)
	}
	if w.interrupts.taken() {
		t.Error("interrupts are still taken after the answer")
	}
}

// interrupter presses Ctrl-C once some text has come.
type interrupter struct {
	w     *world
	armed bool
}

func (i *interrupter) Write(p []byte) (int, error) {
	if i.armed && i.w.out.Len() > 50 {
		i.armed = false
		i.w.interrupts.taken()
	}
	return i.w.out.Write(p)
}

const chatTemplate = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"

// TestChatCommands goes through the commands with a model that has a template.
func TestChatCommands(t *testing.T) {
	model := tiny.Model(t, tiny.Options{Chat: chatTemplate})
	dir := t.TempDir()
	saved := filepath.Join(dir, "talk.json")
	notes := write(t, "notes.txt", "a b c d\n\n")
	long := write(t, "long.txt", strings.Repeat("abc ", 9000))
	for _, c := range []struct {
		name  string
		lines []string
		args  []string
		err   []string
		out   string // "" for anything
	}{
		{"help", []string{"/help"}, nil, []string{"/regen", `"""`, "Ctrl-D"}, "\n"},
		{"unknown", []string{"/hepl"}, nil, []string{`no command "/hepl"`}, "\n"},
		{"stats of nothing", []string{"/stats"}, nil, []string{"nothing was generated"}, "\n"},
		{"an empty message", []string{"", "/stats"}, nil, []string{"nothing was generated"}, "\n"},
		{"regen of nothing", []string{"/regen"}, nil, []string{"no answer to take back"}, "\n"},
		{"regen greedy", []string{"hi", "/regen"}, []string{"--temp", "0"}, []string{"would be the same"}, ""},
		{"too many words", []string{"/clear all"}, nil, []string{"/clear takes nothing"}, "\n"},
		{"no path", []string{"/file"}, nil, []string{"/file needs a path"}, "\n"},
		{"no file", []string{"/file " + dir + "/none"}, nil, []string{"no such file"}, "\n"},
		{"no conversation", []string{"/load " + dir + "/none"}, nil, []string{"no such file"}, "\n"},
		{"not a conversation", []string{"/load " + notes}, nil, []string{"conversation"}, "\n"},
		{"a long file", []string{"/file " + long}, nil, []string{"the context 8,192", "--ctx-size (-c)"}, "\n"},
		{"a long message", []string{strings.Repeat("abc ", 9000), "/stats"}, nil, []string{"/clear the conversation", "nothing was generated"}, "\n"},
		{"system", []string{"/system", "/system Be brief.", "/system"}, nil, []string{"none but", "\nBe brief.\n"}, "\n"},
		{"system by flag", []string{"/system", "/clear", "/system", "/system -", "/system"}, []string{"--system", "Be kind."}, []string{"Be kind.\ncleared\nBe kind.\nnone but"}, "\n"},
		{"save and load", []string{"/file " + notes, "hello", "/save " + saved, "/clear", "/load " + saved, "more", "/stats"}, nil,
			[]string{"tokens, read with", "2 messages are in " + saved, "2 messages from", "more from the cache"}, ""},
		{"load by flag", []string{"more", "/stats"}, []string{"--load", saved}, []string{"2 messages from", "more from the cache"}, ""},
	} {
		w := newWorld("", env(t))
		code := talk(w, &typist{lines: c.lines}, append([]string{"-m", model, "-n", "8"}, c.args...)...)
		if code != exitOK {
			t.Errorf("%s: exit code %d", c.name, code)
		}
		for _, part := range c.err {
			if !strings.Contains(w.err.String(), part) {
				t.Errorf("%s: %q, expected %q in it", c.name, w.err.String(), part)
			}
		}
		if c.out != "" && w.out.String() != c.out {
			t.Errorf("%s: output %q, expected %q", c.name, w.out.String(), c.out)
		}
	}

	// A damaged cache beside a conversation is said and not used.
	if err := os.WriteFile(saved+cacheSuffix, []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := newWorld("", env(t))
	if code := talk(w, &typist{lines: []string{"more", "/stats"}}, "-m", model, "-n", "8", "--load", saved); code != exitOK || !strings.Contains(w.err.String(), "read anew") {
		t.Error(code, w.err.String())
	}
	// Another model reads the messages anew.
	other := tiny.Model(t, tiny.Options{Chat: chatTemplate, Layers: 1})
	w = newWorld("", env(t))
	if code := talk(w, &typist{lines: []string{"more"}}, "-m", other, "-n", "8", "--load", saved); code != exitOK || !strings.Contains(w.err.String(), "with another model") {
		t.Error(code, w.err.String())
	}
}

// TestChatRegenerate gives another answer in the place of the last one.
func TestChatRegenerate(t *testing.T) {
	w := newWorld("", env(t))
	saved := filepath.Join(t.TempDir(), "talk.json")
	p := &typist{lines: []string{"The king had three sons.", "/regen", "/save " + saved}}
	if code := talk(w, p, "-n", "12"); code != exitOK {
		t.Fatal(code, w.err.String())
	}
	var got struct{ Messages []engine.Message }
	if err := json.Unmarshal(file(t, saved), &got); err != nil || len(got.Messages) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	second := got.Messages[1].Content
	first, ok := strings.CutSuffix(strings.TrimSpace(w.out.String()), strings.TrimSpace(second))
	if !ok || strings.TrimSpace(first) == "" || strings.TrimSpace(first) == strings.TrimSpace(second) {
		t.Errorf("%q was saved of %q", second, w.out.String())
	}
}

// TestChatFails: what cannot start says why, and input that is no terminal ends
// at the first mistake.
func TestChatFails(t *testing.T) {
	model := tiny.Model(t, tiny.Options{Chat: chatTemplate})
	endless := tiny.Model(t, tiny.Options{Chat: "{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}"})
	home := env(t)
	for _, r := range []run{
		{name: "nothing to say", args: []string{"chat"}, env: home, err: []string{"writes stories"}},
		{name: "system without a template", args: []string{"chat", "--system", "x"}, env: home, code: exitUsage, err: []string{"--system"}},
		{name: "colours", args: []string{"chat", "--color=some"}, env: home, code: exitUsage, err: []string{"--color"}},
		{name: "a bad command", args: []string{"chat", "-m", model}, in: "/none\n", env: home, code: exitFailed, err: []string{"/none"}},
		{name: "too long", args: []string{"chat", "-m", model, "-c", "32"}, in: strings.Repeat("abc ", 100), env: home, code: exitMemory, err: []string{"--ctx-size (-c)"}},
		{name: "no end", args: []string{"chat", "-m", model}, in: "\"\"\"\nabc\n", env: home, code: exitFailed, err: []string{`no """`}},
		{name: "an endless template", args: []string{"chat", "-m", endless}, in: "hi\n", env: home, code: exitFile, err: []string{"without end"}},
		{name: "no saved file", args: []string{"chat", "--load", "none.json"}, env: home, code: exitFailed, err: []string{"none.json"}},
	} {
		r.test(t)
	}
}

func TestReadMessage(t *testing.T) {
	for in, want := range map[string][]string{
		"one\ntwo":                     {"one", "two"},
		"one\\\ntwo\\\nthree\nfour\n":  {"one\ntwo\nthree", "four"},
		"\"\"\"\na\n\n b\\\n\"\"\"\nc": {"a\n\n b\\", "c"},
		"\"\"\"a\nb\"\"\"\n":           {"a\nb"},
		"\"\"\"a b\"\"\"\nc\n":         {"a b", "c"},
		"\"\"\"\"\"\"\nc\n":            {"", "c"},
		"\n\n":                         {"", ""},
		"end\\":                        {"end\n"},
		"windows\r\nlines\r\n":         {"windows", "lines"},
	} {
		lines := &plainLines{bufio.NewReader(strings.NewReader(in))}
		var got []string
		for {
			text, err := readMessage(context.Background(), lines, "")
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: %q, expected %q", in, got, want)
		}
	}
}

func TestCompleteChat(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"book.txt", "box"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "bond"), 0o700); err != nil {
		t.Fatal(err)
	}
	in := "/file " + filepath.Join(dir, "bo")
	for line, want := range map[string][]string{
		"/s":       {"/system ", "/save ", "/stats"},
		"/x":       nil,
		"hello":    nil,
		in + "o":   {in + "ok.txt"},
		in:         {in + "nd" + string(filepath.Separator), in + "ok.txt", in + "x"},
		"/stats /": nil,
	} {
		if got := completeChat(line); !slices.Equal(got, want) {
			t.Errorf("%q: %q, expected %q", line, got, want)
		}
	}
}
