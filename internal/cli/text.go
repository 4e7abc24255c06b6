package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"

	"triforce/engine"
	"triforce/tokenizer"
)

// readText reads a file, or standard input if it is called "-".
func readText(sys *System, file string) (string, error) {
	var data []byte
	var err error
	if file == "-" {
		data, err = io.ReadAll(sys.In)
	} else {
		data, err = os.ReadFile(file)
	}
	if err != nil {
		return "", fmt.Errorf("text: %w", err)
	}
	return string(data), nil
}

// warnLost says which bytes of a text the model has no token for.
func warnLost(sys *System, f *engine.File, text string) {
	t, ok := f.Tokenizer().(tokenizer.Lossy)
	if !ok {
		return
	}
	if n, first := t.Lost(text); n > 0 {
		sys.warn("the model has no token for %s bytes of the text, which are left out; the first is 0x%02X at offset %d", grouped(n), text[first], first)
	}
}

// writeJSON prints one object on a line.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// grouped writes a number with commas between thousands.
func grouped[T ~int | ~int64](n T) string {
	s := strconv.FormatInt(int64(n), 10)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
