package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"triforce/engine"
	"triforce/hub"
)

// hub is the hub and its cache as the environment says.
func (s *System) hub() *hub.Hub { return hub.New(s.Getenv) }

// locate returns the path of a model, which is called by its path, or by the
// name of one that was pulled.
func (s *System) locate(name string) (string, error) {
	if name == "" || name == engine.Embedded || name == engine.EmbeddedDraft {
		return name, nil
	}
	_, err := os.Stat(name)
	if !errors.Is(err, fs.ErrNotExist) {
		return name, nil // whatever is wrong with it, opening it says so
	}
	n, parseErr := pulledName(name)
	if parseErr != nil {
		return "", fmt.Errorf("model: %w", err)
	}
	m, findErr := s.hub().Find(n)
	if findErr != nil {
		return "", fmt.Errorf("model %s: %w, nor is there a pulled model of this name: %w; 'triforce list' shows those, 'triforce pull' gets more",
			name, fs.ErrNotExist, findErr)
	}
	return m.Path, nil
}

// pulledName reads a name of the catalogue or of the hub.
func pulledName(text string) (hub.Name, error) {
	if p, ok := hub.Lookup(text); ok {
		return p.Target, nil
	}
	return hub.Parse(text)
}

// drafts is the file that remembers which draft belongs to which model.
func (s *System) drafts() *engine.Drafts {
	return engine.OpenDrafts(filepath.Join(s.dataFolder(), "drafts.json"))
}

// dataFolder is where triforce keeps what it should remember from run to run.
func (s *System) dataFolder() string {
	if dir := s.Getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "triforce")
	}
	if dir := s.Getenv("LOCALAPPDATA"); dir != "" { // Windows
		return filepath.Join(dir, "triforce")
	}
	return filepath.Join(s.Getenv("HOME"), ".local", "share", "triforce")
}

// recordedDraft is the draft that was recorded for a model, or "". What is wrong
// with the model is said by whoever opens it.
func (s *System) recordedDraft(model string) string {
	all, err := s.drafts().All()
	if err != nil {
		s.warn("%v", err)
	}
	if len(all) == 0 || model == "" { // the embedded model's is in the program
		return ""
	}
	path, err := s.locate(model)
	if err != nil {
		return ""
	}
	draft, _ := s.drafts().Of(path)
	return draft
}
