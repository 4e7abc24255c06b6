package lint

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// root is the repository, seen from this folder.
const root = "../.."

// file is a text file of the repository.
type file struct {
	name string // from the root, with slashes
	data string
}

// pkg is the folder of the file, "." for the root.
func (f file) pkg() string { return path.Dir(f.name) }

func (f file) isTest() bool { return strings.HasSuffix(f.name, "_test.go") }

// files returns the text files of the repository that people write or read.
func files(t *testing.T) []file {
	t.Helper()
	extensions := []string{".go", ".s", ".md", ".py", ".sh", ".mod"}
	names := []string{"Makefile", "LICENSE", ".ci/run"}
	var list []file
	err := filepath.WalkDir(root, func(at string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(root, at)
		name = filepath.ToSlash(name)
		switch {
		case entry.IsDir() && strings.HasPrefix(name, ".") && name != "." && name != ".ci":
			return filepath.SkipDir
		case !entry.Type().IsRegular():
			return nil
		case slices.Contains(extensions, path.Ext(name)) || slices.Contains(names, name):
			data, err := os.ReadFile(at)
			if err != nil {
				return err
			}
			list = append(list, file{name, string(data)})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// source is a parsed Go file of the module.
type source struct {
	file
	fset   *token.FileSet
	syntax *ast.File
}

// sources parses every Go file of the module, whatever system, processor or
// tag it is for, so that an import cannot hide behind a build constraint. It
// leaves out other modules (folders with an underscore) and files that only
// `go run` builds.
func sources(t *testing.T) []source {
	t.Helper()
	var list []source
	for _, f := range files(t) {
		if path.Ext(f.name) != ".go" || strings.Contains("/"+f.name, "/_") || strings.Contains(f.data, "\n//go:build ignore\n") ||
			strings.HasPrefix(f.data, "//go:build ignore\n") {
			continue
		}
		fset := token.NewFileSet()
		syntax, err := parser.ParseFile(fset, f.name, f.data, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, source{f, fset, syntax})
	}
	return list
}
