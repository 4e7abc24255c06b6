// Package load opens vocabularies: it knows the files they come in and which
// tokenizer goes with which model.
package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"triforce/tokenizer"
	"triforce/tokenizer/bpe"
	"triforce/tokenizer/spm"
)

// New builds the tokenizer of s.
func New(s *tokenizer.Spec) (tokenizer.Tokenizer, error) {
	if s.Model == tokenizer.SentencePiece {
		return spm.New(s)
	}
	return bpe.New(s)
}

// Folder reads the vocabulary of a model folder: tokenizer.json or else
// tokenizer.model, with the settings beside it. Without either, the error is
// fs.ErrNotExist.
func Folder(dir string) (tokenizer.Spec, error) {
	var err error
	read := func(name string) []byte {
		data, readErr := os.ReadFile(filepath.Join(dir, name))
		if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) && err == nil {
			err = readErr
		}
		return data
	}
	json, model := read("tokenizer.json"), read("tokenizer.model")
	config, specials := read("tokenizer_config.json"), read("special_tokens_map.json")
	template := read("chat_template.jinja")
	var s tokenizer.Spec
	switch {
	case err != nil:
		return s, fmt.Errorf("tokenizer: %w", err)
	case json != nil:
		s, err = tokenizer.FromJSON(json, config, specials)
	case model != nil:
		s, err = tokenizer.FromModel(model, config, specials)
	default:
		err = fmt.Errorf("tokenizer: neither tokenizer.json nor tokenizer.model: %w", fs.ErrNotExist)
	}
	if err != nil {
		return s, fmt.Errorf("%s: %w", dir, err)
	}
	if template != nil {
		s.ChatTemplate = string(template)
	}
	return s, nil
}
