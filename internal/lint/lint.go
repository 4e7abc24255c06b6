// Package lint holds the tests of the house rules: which package may import
// which, how files are formatted, what they must and must not say. It has no
// other code.
package lint
