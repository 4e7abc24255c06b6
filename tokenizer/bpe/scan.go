package bpe

import (
	"unicode"
	"unicode/utf8"
)

// A scanner returns the length of the first word of a text that is not empty.
// It is a hand-written form of a well-known regular expression that matches
// any text without gaps.
type scanner func(text string) int

// The expressions that have a scanner. The spelled-out contractions are how
// GGUF readers write the (?i:…) group; only the group knows that ſ is an s.
const (
	gpt2Pattern     = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	foldedMarks     = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	spelledOutMarks = `(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])`
	llama3Numbers   = `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}`
	qwen2Numbers    = `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}`
	newlineAware    = `| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
)

// scannerOf returns the scanner of a regular expression, or nil.
func scannerOf(pattern string) scanner {
	switch pattern {
	case gpt2Pattern:
		return scanGPT2
	case foldedMarks + llama3Numbers + newlineAware:
		return func(s string) int { return scanLlama3(s, 3, true) }
	case spelledOutMarks + llama3Numbers + newlineAware:
		return func(s string) int { return scanLlama3(s, 3, false) }
	case foldedMarks + qwen2Numbers + newlineAware:
		return func(s string) int { return scanLlama3(s, 1, true) }
	case spelledOutMarks + qwen2Numbers + newlineAware:
		return func(s string) int { return scanLlama3(s, 1, false) }
	}
	return nil
}

// class is what the expressions distinguish. A byte that is not UTF-8 is other.
type class uint8

const (
	other class = iota
	letter
	number
	space
	none // past the end
)

// classAt returns the class and size of the character at s[i:].
func classAt(s string, i int) (class, int) {
	if i >= len(s) {
		return none, 0
	}
	if c := s[i]; c < utf8.RuneSelf {
		switch {
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			return letter, 1
		case c == ' ' || '\t' <= c && c <= '\r':
			return space, 1
		case '0' <= c && c <= '9':
			return number, 1
		}
		return other, 1
	}
	r, n := utf8.DecodeRuneInString(s[i:])
	switch {
	case r == utf8.RuneError:
		return other, n
	case unicode.IsLetter(r):
		return letter, n
	case unicode.IsSpace(r):
		return space, n
	case unicode.IsNumber(r):
		return number, n
	}
	return other, n
}

// run returns the end of the characters of class c from s[i:] on.
func run(s string, i int, c class) int {
	for {
		got, n := classAt(s, i)
		if got != c {
			return i
		}
		i += n
	}
}

// scanGPT2 is gpt2Pattern.
func scanGPT2(s string) int {
	if n := contraction(s, false, false); n > 0 {
		return n
	}
	i := 0
	c, n := classAt(s, 0)
	if s[0] == ' ' {
		if after, size := classAt(s, 1); after != space && after != none {
			i, c, n = 1, after, size
		}
	}
	if c == space {
		return scanSpaces(s, false)
	}
	return run(s, i+n, c)
}

// scanLlama3 is the Llama 3 and Qwen 2 family, which takes numbers digits at a
// time; fold takes ſ for an s.
func scanLlama3(s string, digits int, fold bool) int {
	if n := contraction(s, true, fold); n > 0 {
		return n
	}
	c, n := classAt(s, 0)
	switch c {
	case letter:
		return run(s, n, letter)
	case number:
		i := n
		for range digits - 1 {
			c, n := classAt(s, i)
			if c != number {
				break
			}
			i += n
		}
		return i
	}
	after, size := classAt(s, n)
	if after == letter && s[0] != '\r' && s[0] != '\n' {
		return run(s, n+size, letter)
	}
	i := 0
	if s[0] == ' ' && after == other {
		i = n + size
	} else if c == other {
		i = n
	} else {
		return scanSpaces(s, true)
	}
	i = run(s, i, other)
	for i < len(s) && (s[i] == '\r' || s[i] == '\n') {
		i++
	}
	return i
}

// scanSpaces splits white space so that its last character stays with the word
// that follows; with newlines, it ends a word after the last line break.
func scanSpaces(s string, newlines bool) int {
	end, last, broken := 0, 0, 0
	for {
		c, n := classAt(s, end)
		if c != space {
			break
		}
		if s[end] == '\r' || s[end] == '\n' {
			broken = end + n
		}
		last = end
		end += n
	}
	switch {
	case newlines && broken > 0:
		return broken
	case end == len(s) || last == 0:
		return end
	}
	return last
}

// contraction returns the length of an English contraction that s begins with,
// or 0.
func contraction(s string, upper, fold bool) int {
	if len(s) < 2 || s[0] != '\'' {
		return 0
	}
	lower := func(c byte) byte {
		if upper && 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		return c
	}
	switch lower(s[1]) {
	case 's', 't', 'm', 'd':
		return 2
	}
	if len(s) < 3 {
		return 0
	}
	if fold && s[1:3] == "ſ" {
		return 3
	}
	switch [2]byte{lower(s[1]), lower(s[2])} {
	case [2]byte{'r', 'e'}, [2]byte{'v', 'e'}, [2]byte{'l', 'l'}:
		return 3
	}
	return 0
}
