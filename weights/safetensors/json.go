package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"triforce/internal/mmap"
)

// Limits on a document, far above what files have.
const (
	maxDepth = 32      // levels of nesting
	maxKeys  = 1 << 19 // in all objects
)

// readJSON decodes the file at path, see decodeJSON.
func readJSON(path string, into any) error {
	f, err := mmap.Open(path)
	if err != nil {
		return fmt.Errorf("safetensors: %w", err)
	}
	defer f.Close()
	return decodeJSON(path, 0, f.Data, into)
}

// decodeJSON decodes data, which starts at offset of the file, and rejects
// what the standard decoder lets pass: keys that occur twice, deep nesting and
// anything but one object.
func decodeJSON(path string, offset int, data []byte, into any) error {
	at, err := checkJSON(data)
	if err == nil {
		err = json.Unmarshal(data, into)
		var mismatch *json.UnmarshalTypeError
		if errors.As(err, &mismatch) {
			at = int(mismatch.Offset)
			err = fmt.Errorf("%.64q: expected a value that fits %v, found %.64s", mismatch.Field, mismatch.Type, mismatch.Value)
		}
	}
	if err != nil {
		return corrupt(path, offset+at, "JSON: %v", err)
	}
	return nil
}

// checkJSON returns what is wrong with a document and where.
func checkJSON(data []byte) (int, error) {
	type level struct {
		keys     map[string]bool // nil in an array
		wantsKey bool            // the next token is a key
	}
	var stack []level
	keys := 0
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	for first := true; first || len(stack) > 0; first = false {
		token, err := d.Token()
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		at := int(d.InputOffset())
		if err != nil {
			return at, err
		}
		if first && token != json.Delim('{') {
			return at, fmt.Errorf("expected an object, found %.32q", fmt.Sprint(token))
		}
		top := len(stack) - 1
		if top >= 0 && stack[top].keys != nil && token != json.Delim('}') {
			if stack[top].wantsKey {
				key := token.(string)
				if stack[top].keys[key] {
					return at, fmt.Errorf("expected key %.64q once, found it again", key)
				}
				stack[top].keys[key] = true
				if keys++; keys > maxKeys {
					return at, fmt.Errorf("expected at most %d keys, found more", maxKeys)
				}
			}
			stack[top].wantsKey = !stack[top].wantsKey
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, wantsKey: true})
		case json.Delim('['):
			stack = append(stack, level{})
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
		}
		if len(stack) > maxDepth {
			return at, fmt.Errorf("expected at most %d levels of nesting, found more", maxDepth)
		}
	}
	at := int(d.InputOffset())
	if rest := bytes.TrimLeft(data[at:], " \t\r\n"); len(rest) > 0 {
		return at, fmt.Errorf("expected the end, found %.16q", rest)
	}
	return at, nil
}
