package lint

import (
	"go/ast"
	"go/format"
	"path"
	"regexp"
	"strings"
	"testing"
)

func TestFormatted(t *testing.T) {
	for _, f := range files(t) {
		if path.Ext(f.name) != ".go" {
			continue
		}
		want, err := format.Source([]byte(f.data))
		if err != nil {
			t.Errorf("%s: %v", f.name, err)
		} else if string(want) != f.data {
			t.Errorf("%s: not as gofmt writes it", f.name)
		}
	}
}

// unwanted are the words that no file may hold, and why.
var unwanted = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`\b(TODO|FIXME|X[X]X)\b`), "unfinished business: finish it or file it"},
	{regexp.MustCompile(`(^|[\s"'` + "`" + `=(])/(work|root|home/\w+|tmp/\w+)/`), "a path of somebody's machine"},
}

// complaint says why a line is unwanted, or "".
func complaint(line string) string {
	for _, u := range unwanted {
		if u.pattern.MatchString(line) {
			return u.why
		}
	}
	return ""
}

func TestWords(t *testing.T) {
	for _, f := range files(t) {
		if f.name == "internal/lint/text_test.go" {
			continue // names them
		}
		for i, line := range strings.Split(f.data, "\n") {
			if why := complaint(line); why != "" {
				t.Errorf("%s:%d: %s: %s", f.name, i+1, why, strings.TrimSpace(line))
			}
		}
	}
}

func TestComplaint(t *testing.T) {
	for line, unwanted := range map[string]bool{
		"// TODO: later":              true,
		"FIXME":                       true,
		`open("/work/shared/x.gguf")`: true,
		"cd /root/triforce/main":      true,
		"see /tmp/venv/bin":           true,
		"/home/me/model.gguf":         true,
		"mastodon":                    false,
		"shared/work/models":          false,
		"bytes/root/child":            false,
		`filepath.Join(dir, "tmp")`:   false,
	} {
		if why := complaint(line); (why != "") != unwanted {
			t.Errorf("%q: %q", line, why)
		}
	}
}

// TestPackageComments asks of every package, commands included, to say what it
// is.
func TestPackageComments(t *testing.T) {
	said := map[string]bool{}
	for _, f := range sources(t) {
		if !f.isTest() {
			said[f.pkg()] = said[f.pkg()] || f.syntax.Doc != nil
		}
	}
	for pkg, ok := range said {
		if !ok {
			t.Errorf("package %s has no comment", pkg)
		}
	}
}

// TestNoInit keeps packages from doing things before main does.
func TestNoInit(t *testing.T) {
	for _, f := range sources(t) {
		for _, d := range f.syntax.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: func init", f.fset.Position(fn.Pos()))
			}
		}
	}
}
