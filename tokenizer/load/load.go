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

// Folder reads the vocabulary of a model folder: tokenizer.json with the
// settings beside it, else tokenizer.model. Without either, the error is
// fs.ErrNotExist.
func Folder(dir string) (tokenizer.Spec, error) {
	data, err := optional(dir, "tokenizer.json")
	if err != nil {
		return tokenizer.Spec{}, err
	}
	if data == nil {
		return Model(filepath.Join(dir, "tokenizer.model"))
	}
	config, err := optional(dir, "tokenizer_config.json")
	if err != nil {
		return tokenizer.Spec{}, err
	}
	specials, err := optional(dir, "special_tokens_map.json")
	if err != nil {
		return tokenizer.Spec{}, err
	}
	s, err := tokenizer.FromJSON(data, config, specials)
	if err == nil && s.ChatTemplate == "" {
		var template []byte
		template, err = optional(dir, "chat_template.jinja")
		s.ChatTemplate = string(template)
	}
	return s, in(dir, err)
}

// Model reads a SentencePiece tokenizer.model file.
func Model(path string) (tokenizer.Spec, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return tokenizer.Spec{}, fmt.Errorf("tokenizer: %w", err)
	}
	s, err := tokenizer.FromModel(data)
	return s, in(path, err)
}

// optional reads a file of a folder, nil if there is none.
func optional(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	return data, nil
}

// in adds the file's path to an error.
func in(path string, err error) error {
	if err != nil {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return err
}
