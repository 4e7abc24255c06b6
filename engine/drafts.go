package engine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"triforce/internal/replace"
	"triforce/tokenizer"
)

// Drafts is a file that remembers which draft belongs to which model. A model
// is known by its weights, wherever they are. It is safe for concurrent use by
// several programs as long as they read; of two that write at once, one wins.
type Drafts struct{ path string }

// DraftRecord is an entry of Drafts: what a model and its draft were called.
type DraftRecord struct {
	Model string `json:"model"`
	Draft string `json:"draft"`
}

// OpenDrafts uses the file at path, which need not exist.
func OpenDrafts(path string) *Drafts { return &Drafts{path} }

// maxDrafts bounds the size of the file, in bytes.
const maxDrafts = 16 << 20

// All returns the entries by the fingerprint of their model.
func (d *Drafts) All() (map[string]DraftRecord, error) {
	info, err := os.Stat(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]DraftRecord{}, nil
	}
	var data []byte
	if err == nil && info.Size() > maxDrafts {
		err = fmt.Errorf("%d bytes are more than %d", info.Size(), maxDrafts)
	}
	if err == nil {
		data, err = os.ReadFile(d.path)
	}
	all := map[string]DraftRecord{}
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		return nil, fmt.Errorf("engine: %s: %w; remove the file to forget which drafts belong to which models", d.path, err)
	}
	if all == nil { // the file says null
		all = map[string]DraftRecord{}
	}
	return all, nil
}

// Of returns what the draft of the model at path is called: a file or a pulled
// name, or "" if none was recorded.
func (d *Drafts) Of(path string) (string, error) {
	all, err := d.All()
	if err != nil || len(all) == 0 {
		return "", err
	}
	source, _, err := openSource(path)
	if err != nil {
		return "", err
	}
	defer source.Close()
	return all[fingerprint(source)].Draft, nil
}

// Record remembers the draft of a model, or forgets it if draft is "". model is
// what to call the model in lists.
func (d *Drafts) Record(f *File, model, draft string) error {
	all, err := d.All()
	if err != nil {
		return err
	}
	key := f.Fingerprint()
	if draft == "" {
		delete(all, key)
	} else {
		all[key] = DraftRecord{Model: model, Draft: draft}
	}
	data, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(d.path), 0o755); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if err := replace.Data(d.path, 0o644, append(data, '\n')); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	return nil
}

// ErrStates marks a draft that takes in states which a target does not have.
var ErrStates = errors.New("made for another model")

// CanDraft says why draft cannot draft for f, or nil. The error wraps
// tokenizer.ErrMismatch or ErrStates.
func (f *File) CanDraft(draft *File) error {
	if err := tokenizer.Compatible(f.tokenizer.Vocab(), draft.tokenizer.Vocab()); err != nil {
		return fmt.Errorf("%s cannot draft for %s: %w", draft.Name(), f.Name(), err)
	}
	mine, err := f.config()
	if err != nil {
		return err
	}
	if small, err := draft.config(); err == nil && small.State != 0 && small.State != mine.Dim {
		return fmt.Errorf("%s cannot draft for %s: it takes states of %d elements, the model's have %d: %w",
			draft.Name(), f.Name(), small.State, mine.Dim, ErrStates)
	}
	return nil
}
