package engine

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"triforce/demo"
	"triforce/model/llama"
	"triforce/tokenizer"
	"triforce/tokenizer/load"
	"triforce/weights"
	"triforce/weights/gguf"
	"triforce/weights/safetensors"
)

// Embedded and EmbeddedDraft are the names of the models in the program itself.
// The empty path opens the first as well.
const (
	Embedded      = "fable (embedded)"
	EmbeddedDraft = "fable-draft (embedded)"
)

// File is an opened model whose weights have not been read: tokenizer and
// metadata are at hand.
type File struct {
	source    weights.Source
	tokenizer tokenizer.Tokenizer
	config    func() (llama.Config, error)
}

// OpenFile opens the model at path as Open does, with rotary embedding
// overridden where rope says so.
func OpenFile(path string, rope Rope) (*File, error) {
	source, spec, err := openSource(path)
	if err != nil {
		return nil, err
	}
	f := &File{source: source}
	if f.tokenizer, err = load.New(&spec); err != nil {
		source.Close()
		return nil, fmt.Errorf("%s: %w", source.Path(), err)
	}
	if rope != (Rope{}) {
		if f.source, err = rope.override(source); err != nil {
			source.Close()
			return nil, err
		}
	}
	f.config = sync.OnceValues(func() (llama.Config, error) { return llama.ParseConfig(f.source) })
	return f, nil
}

// openSource opens weights and reads the vocabulary that comes with them.
func openSource(path string) (source weights.Source, spec tokenizer.Spec, err error) {
	defer func() {
		if err != nil && source != nil {
			source.Close()
		}
	}()
	folder, isFolder, err := safetensorsFolder(path)
	switch {
	case err != nil:
		return nil, spec, err
	case isFolder:
		if source, err = opened(safetensors.Open(path)); err != nil {
			return nil, spec, err
		}
		spec, err = load.Folder(folder)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%s: expected tokenizer.json or tokenizer.model: %w", folder, err)
		}
		return source, spec, err
	case path == "" || path == Embedded:
		source, err = opened(openEmbedded(Embedded, demo.Target))
	case path == EmbeddedDraft:
		source, err = opened(openEmbedded(EmbeddedDraft, demo.Draft))
	default:
		source, err = opened(gguf.Open(path))
	}
	if err != nil {
		return nil, spec, err
	}
	if spec, err = tokenizer.FromGGUF(source.Meta()); err != nil {
		err = fmt.Errorf("%s: %w", source.Path(), err)
	}
	return source, spec, err
}

// safetensorsFolder returns the folder of a safetensors model, and false if
// path is something else.
func safetensorsFolder(path string) (string, bool, error) {
	if path == "" || path == Embedded || path == EmbeddedDraft {
		return "", false, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", false, fmt.Errorf("engine: model: %w", err)
	}
	if info.IsDir() {
		return path, true, nil
	}
	name := filepath.Base(path)
	is := strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".safetensors.index.json")
	return filepath.Dir(path), is, nil
}

// opened turns a format's file into a Source, nil where there is an error.
func opened[T weights.Source](f T, err error) (weights.Source, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Close unmaps the file.
func (f *File) Close() error { return f.source.Close() }

// Name is the path of the model, or Embedded.
func (f *File) Name() string { return f.source.Path() }

// Source returns metadata and tensors.
func (f *File) Source() weights.Source { return f.source }

// Tokenizer returns the model's tokenizer.
func (f *File) Tokenizer() tokenizer.Tokenizer { return f.tokenizer }

// Context is the number of tokens that the model was made for.
func (f *File) Context() (int, error) {
	c, err := f.config()
	return c.Context, err
}

// HeadTokens is the number of tokens that have logits: all of the vocabulary, but
// for a model with a trimmed head.
func (f *File) HeadTokens() int {
	n := f.tokenizer.Vocab().Size()
	if c, err := f.config(); err == nil && c.Head != nil {
		n = len(c.Head)
	}
	return n
}

// StateWidth is the number of elements of a target's states that the model takes in
// beside tokens, 0 for most.
func (f *File) StateWidth() int {
	c, _ := f.config()
	return c.State
}

// CheckLength reports, before anything is loaded, a text that is longer than
// the context; the error wraps ErrContext.
func (f *File) CheckLength(what string, tokens int, o Options) error {
	limit, err := o.Context, error(nil)
	if limit == 0 {
		limit, err = f.Context()
	}
	if err == nil && tokens > limit {
		err = contextError(what, tokens, limit)
	}
	return err
}
