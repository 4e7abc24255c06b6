package distill

import (
	"fmt"
	"io"

	"triforce/internal/replace"
)

// write replaces the file at path, at once or not at all.
func write(path string, content func(io.Writer) error) error {
	if err := replace.File(path, 0o644, content); err != nil {
		return fmt.Errorf("distill: %s: %w", path, err)
	}
	return nil
}

// writeData is write with all of the data at hand.
func writeData(path string, data []byte) error {
	if err := replace.Data(path, 0o644, data); err != nil {
		return fmt.Errorf("distill: %s: %w", path, err)
	}
	return nil
}
