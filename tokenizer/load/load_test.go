package load_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"triforce/tokenizer"
	"triforce/tokenizer/load"
)

func TestFolder(t *testing.T) {
	write := func(dir, name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	if _, err := load.Folder(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an empty folder gives %v", err)
	}
	model, err := os.ReadFile("../spm/testdata/fallback.model")
	if err != nil {
		t.Fatal(err)
	}
	write(dir, "tokenizer.model", string(model))
	write(dir, "tokenizer_config.json", `{"add_bos_token":false,"eos_token":"<unk>","chat_template":"hi"}`)
	if s, err := load.Folder(dir); err != nil || s.Model != tokenizer.SentencePiece || s.AddBOS || s.BOS != 1 || s.EOS != 0 || s.ChatTemplate != "hi" {
		t.Errorf("tokenizer.model gives %q, %d, %d, %q, %v", s.Model, s.BOS, s.EOS, s.ChatTemplate, err)
	}
	write(dir, "tokenizer_config.json", `{}`)
	write(dir, "tokenizer.json", `{"model":{"vocab":{"a":0,"<s>":1}}}`)
	write(dir, "special_tokens_map.json", `{"bos_token":{"content":"<s>"}}`)
	s, err := load.Folder(dir)
	if err != nil || s.Model != tokenizer.MergeList || s.BOS != 1 || s.AddBOS || s.ChatTemplate != "" {
		t.Errorf("tokenizer.json gives %+v, %v", s, err)
	}
	write(dir, "tokenizer_config.json", `{"eos_token":"a","add_bos_token":true,"chat_template":[{"name":"default","template":"bye"}]}`)
	if s, err = load.Folder(dir); err != nil || s.BOS != 1 || s.EOS != 0 || !s.AddBOS || s.ChatTemplate != "bye" {
		t.Errorf("with settings it gives %+v, %v", s, err)
	}
	write(dir, "chat_template.jinja", "hello")
	if s, err = load.Folder(dir); err != nil || s.ChatTemplate != "hello" {
		t.Errorf("with a template beside it it gives %q, %v", s.ChatTemplate, err)
	}
	write(dir, "tokenizer_config.json", `{"eos_token":"zzz"}`)
	if _, err = load.Folder(dir); !errors.Is(err, tokenizer.ErrCorrupt) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "zzz") {
		t.Errorf("an unknown token gives %v", err)
	}
}
