package server

import (
	"net/http"
	"path/filepath"
	"strings"

	"triforce/engine"
	"triforce/server/openai"
	"triforce/tokenizer"
)

// NameOf is what a model is called: its file's name without the ending.
func NameOf(f *engine.File) string {
	name := f.Name()
	if name == engine.Embedded {
		return "fable"
	}
	name = filepath.Base(name)
	for _, end := range []string{".gguf", ".safetensors", ".safetensors.index.json"} {
		name = strings.TrimSuffix(name, end)
	}
	return name
}

func (s *Server) health(w http.ResponseWriter, r *http.Request) {
	if s.draining.Load() {
		s.fail(w, r, openai.Errorf(http.StatusServiceUnavailable, openai.Unavailable, "the server is stopping").WithCode("draining"))
		return
	}
	_ = s.reply(w, http.StatusOK, map[string]string{"status": "ok"})
}

func (s *Server) entry(name string) openai.Model {
	vocab := s.e.File().Tokenizer().Vocab()
	trained, _ := s.e.File().Context()
	return openai.Model{ID: name, Object: "model", Created: s.started.Unix(), OwnedBy: "triforce", Meta: map[string]any{
		"n_vocab": vocab.Size(), "n_ctx": s.e.Options().Context, "n_ctx_train": trained, "size": s.e.WeightBytes(),
	}}
}

func (s *Server) models(w http.ResponseWriter, r *http.Request) {
	list := openai.ModelList{Object: "list", Data: []openai.Model{s.entry(s.o.Name)}}
	for _, alias := range s.o.Aliases {
		list.Data = append(list.Data, s.entry(alias))
	}
	_ = s.reply(w, http.StatusOK, list)
}

func (s *Server) model(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if err := s.checkModel(name); err != nil {
		s.fail(w, r, err)
		return
	}
	_ = s.reply(w, http.StatusOK, s.entry(name))
}

func (s *Server) tokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Content      string `json:"content"`
		AddSpecial   bool   `json:"add_special"`
		ParseSpecial *bool  `json:"parse_special"`
		WithPieces   bool   `json:"with_pieces"`
	}
	if err := openai.Decode(http.MaxBytesReader(w, r.Body, s.o.MaxBody), &q); err != nil {
		s.fail(w, r, err)
		return
	}
	o := tokenizer.Options{Marks: tokenizer.MarksNone, Special: q.ParseSpecial == nil || *q.ParseSpecial}
	if q.AddSpecial {
		o.Marks = tokenizer.MarksDefault
	}
	ids := s.e.File().Tokenizer().Encode([]int32{}, q.Content, o)
	if !q.WithPieces {
		_ = s.reply(w, http.StatusOK, map[string]any{"tokens": ids})
		return
	}
	type piece struct {
		ID    int32  `json:"id"`
		Piece string `json:"piece"`
	}
	list := []piece{}
	for _, id := range ids {
		list = append(list, piece{id, s.e.File().Tokenizer().Vocab().Piece(id)})
	}
	_ = s.reply(w, http.StatusOK, map[string]any{"tokens": list})
}

func (s *Server) detokenize(w http.ResponseWriter, r *http.Request) {
	var q struct {
		Tokens []int32 `json:"tokens"`
	}
	if err := openai.Decode(http.MaxBytesReader(w, r.Body, s.o.MaxBody), &q); err != nil {
		s.fail(w, r, err)
		return
	}
	vocab := s.e.File().Tokenizer().Vocab()
	for i, id := range q.Tokens {
		if id < 0 || int(id) >= vocab.Size() {
			s.fail(w, r, openai.Invalid("tokens", "token %d is %d, expected 0 to %d", i, id, vocab.Size()-1))
			return
		}
	}
	_ = s.reply(w, http.StatusOK, map[string]string{"content": tokenizer.Decode(vocab, q.Tokens, tokenizer.DecodeOptions{})})
}

// applyTemplate answers with the text that a chat's messages become.
func (s *Server) applyTemplate(w http.ResponseWriter, r *http.Request) {
	list, err := openai.ReadMessages(http.MaxBytesReader(w, r.Body, s.o.MaxBody))
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if err := s.checkChat(); err != nil {
		s.fail(w, r, err)
		return
	}
	text, err := s.e.File().ChatText(messages(list), s.o.Now())
	if err != nil {
		s.fail(w, r, openai.Errorf(http.StatusBadRequest, openai.InvalidRequest, "%v", err))
		return
	}
	_ = s.reply(w, http.StatusOK, map[string]string{"prompt": text})
}

func (s *Server) props(w http.ResponseWriter, r *http.Request) {
	o, g := s.e.Options(), s.o.Gen
	draft := ""
	if d := s.e.Draft(); d != nil {
		draft = d.File().Name()
	}
	_ = s.reply(w, http.StatusOK, map[string]any{
		"model_alias": s.o.Name, "model_path": s.e.File().Name(), "draft": draft,
		"chat_template": s.e.File().Tokenizer().Vocab().ChatTemplate(),
		"build_info":    s.o.Version, "tier": s.e.Tier(), "threads": o.Threads, "kv_type": o.KVType,
		"total_slots": s.o.Parallel, "levels": engine.OriginNames(),
		"default_generation_settings": map[string]any{
			"n_ctx": o.Context, "spec": g.Spec.Mode, "accept": g.Spec.Accept,
			"params": map[string]any{
				"n_predict": s.o.MaxTokens, "temperature": g.Sample.Temp, "top_k": g.Sample.TopK, "top_p": g.Sample.TopP,
				"min_p": g.Sample.MinP, "repeat_penalty": g.Sample.RepeatPenalty,
			},
		},
	})
}

func (s *Server) showSlots(w http.ResponseWriter, r *http.Request) {
	list := []slotStatus{}
	for _, slot := range s.slots.all {
		list = append(list, slot.get())
	}
	_ = s.reply(w, http.StatusOK, list)
}
