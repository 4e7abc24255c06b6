package engine

import "errors"

var (
	// ErrUsage marks options that are out of range or contradict each other.
	ErrUsage = errors.New("invalid option")
	// ErrMemory marks a model or context that would not fit into memory.
	ErrMemory = errors.New("would not fit into memory")
	// ErrSpace marks a KV cache that would not fit on its disk.
	ErrSpace = errors.New("would not fit on the disk")
	// ErrContext marks a text that is longer than the context.
	ErrContext = errors.New("text exceeds the context")
	// ErrTemplate marks a chat template that is missing or cannot be used.
	ErrTemplate = errors.New("chat template")
)
