package lint

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
)

// ladder lists the packages from the ground up. A package may import those of
// lower rungs and of its own family: a family is a name of this table with all
// folders below it that the table does not name.
var ladder = []string{
	0: "tensor demo internal",
	1: "kvcache weights tokenizer sample hub",
	2: "model",
	3: "speculate model/llama",
	4: "engine",
	5: "server bench distill",
	6: "internal/cli",
	7: "cmd",
}

// only lists, for packages that are held to less than the ladder grants, all of
// ours that they may import. The longest matching name holds; an import may be
// of a listed package or of a folder below it.
var only = map[string]string{
	"tensor": "",
	"demo":   "",

	"internal/cpu":       "",
	"internal/par":       "",
	"internal/mem":       "",
	"internal/mmap":      "",
	"internal/invariant": "",
	"internal/replace":   "",
	"internal/lint":      "",
	"internal/kernel":    "tensor internal/cpu internal/par internal/invariant internal/kernel",
	// The judge shares nothing with the accused.
	"internal/kernel/ref": "tensor",

	// Readers of bytes compute nothing and know no layers.
	"weights": "tensor internal/mmap weights",
	// Text and choice need nothing of the machine.
	"tokenizer": "tokenizer",
	"sample":    "",
	// Files and the network, whatever is in them.
	"hub": "",
	// A cache has no way to call back into a model.
	"kvcache": "tensor internal",
	// Logits out: nothing about text or choice.
	"model":       "tensor internal kvcache weights model",
	"model/llama": "tensor internal kvcache weights model",
	// A scripted fake of thirty lines must be able to drive every rule.
	"speculate": "model kvcache sample internal/invariant",

	"server/openai": "",
}

// never lists what packages may not import although the ladder would let them.
var never = map[string]string{
	"speculate":    "model/llama",
	"server":       "model kvcache speculate weights internal/kernel",
	"bench":        "internal/kernel",
	"internal/cli": "model/llama kvcache internal/kernel",
}

// sideways lists what one family of a rung may import of another.
var sideways = map[string]string{
	"internal": "tensor", // the vocabulary of all
}

// forTests are packages that only tests, and what makes data for them, may
// import; they themselves stand beside the ladder and import what they need.
const (
	forTests = "internal/testutil internal/kernel/kerneltest testing"
	makers   = "testdata"
)

// under reports whether p is one of the names, or a folder below one.
func under(p, names string) bool { return longest(p, strings.Fields(names)) != "" }

// longest returns the longest of the names that is p or a folder above it, or
// "".
func longest(p string, names []string) string {
	best := ""
	for _, n := range names {
		if len(n) > len(best) && (p == n || strings.HasPrefix(p, n+"/")) {
			best = n
		}
	}
	return best
}

// place returns a package's rung and family, or -1 if it is not on the ladder.
func place(p string) (rung int, family string) {
	rung = -1
	for i, names := range ladder {
		if n := longest(p, strings.Fields(names)); len(n) > len(family) {
			rung, family = i, n
		}
	}
	return rung, family
}

// listed returns what a table says about a package.
func listed(table map[string]string, p string) (string, bool) {
	var names []string
	for n := range table {
		names = append(names, n)
	}
	name := longest(p, names)
	return table[name], name != ""
}

// forbidden says why package from must not import package to, or "". Both are
// paths within the module, but to may be one of the standard library.
func forbidden(from, to string) string {
	if under(from, forTests+" "+makers) {
		return ""
	}
	if under(to, forTests) {
		return "is for tests"
	}
	rung, family := place(from)
	target, targetFamily := place(to)
	switch {
	case rung < 0:
		return fmt.Sprintf("comes from %s, which is not on the ladder", from)
	case target < 0:
		return "" // not ours
	case target > rung:
		return fmt.Sprintf("points up, from rung %d to rung %d", rung, target)
	case target == rung && targetFamily != family && sideways[family] != targetFamily:
		return fmt.Sprintf("points sideways on rung %d", rung)
	}
	if names, ok := listed(only, from); ok && !under(to, names) {
		return fmt.Sprintf("is not one of those that it may import (%s)", orNone(names))
	}
	if names, ok := listed(never, from); ok && under(to, names) {
		return "is one of those that it must do without"
	}
	return ""
}

func orNone(names string) string {
	if names == "" {
		return "none of ours"
	}
	return names
}

// module is the path that imports of our own begin with.
const module = "triforce/"

func TestImports(t *testing.T) {
	edges := 0
	for _, f := range sources(t) {
		for _, spec := range f.syntax.Imports {
			to, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			at := f.fset.Position(spec.Pos())
			if to == "C" {
				t.Errorf("%s: cgo", at)
			}
			if spec.Name != nil && spec.Name.Name == "_" && to != "embed" {
				t.Errorf("%s: blank import of %s: wire things up in the open", at, to)
			}
			ours := strings.TrimPrefix(to, module)
			if f.isTest() || ours == to && !under(to, forTests) {
				continue
			}
			edges++
			if why := forbidden(f.pkg(), ours); why != "" {
				t.Errorf("%s: the import of %s %s", at, to, why)
			}
		}
	}
	if edges < 20 {
		t.Errorf("found only %d imports: the walk does not see the module", edges)
	}
}

func TestLadderIsWhole(t *testing.T) {
	for _, f := range sources(t) {
		if rung, _ := place(f.pkg()); rung < 0 && !under(f.pkg(), makers) {
			t.Errorf("%s: package %s is not on the ladder", f.name, path.Join(module, f.pkg()))
		}
	}
}

func TestForbidden(t *testing.T) {
	for _, c := range []struct {
		from, to string
		why      string // part of it, "" if the import is allowed
	}{
		{"engine", "kvcache", ""},
		{"engine", "model/llama", ""},
		{"model/llama", "model", ""},
		{"weights/gguf", "weights", ""},
		{"internal/kernel", "internal/kernel/ref", ""},
		{"cmd/triforce", "internal/cli", ""},
		{"internal/kernel", "tensor", ""},
		{"internal/kernel/kerneltest", "testing", ""},
		{"internal/testutil/tiny", "weights/gguf", ""},
		{"testdata/gen", "internal/testutil/tiny", ""},
		{"server", "server/openai", ""},
		{"kvcache", "fmt", ""},
		{"kvcache", "model", "points up, from rung 1 to rung 2"},
		{"model", "model/llama", "points up"},
		{"tensor", "internal/cli", "points up"},
		{"kvcache", "weights", "sideways on rung 1"},
		{"speculate", "model/llama", "sideways on rung 3"},
		{"server", "bench", "sideways"},
		{"tensor", "internal/par", "sideways"},
		{"internal/kernel/ref", "internal/kernel", "may import (tensor)"},
		{"internal/kernel/ref", "internal/cpu", "may import (tensor)"},
		{"internal/mmap", "internal/par", "none of ours"},
		{"speculate", "internal/kernel", "may import"},
		{"speculate", "weights", "may import"},
		{"speculate", "tokenizer/bpe", "may import"},
		{"model", "sample", "may import"},
		{"weights/gguf", "internal/kernel", "may import"},
		{"sample", "tensor", "none of ours"},
		{"tokenizer/bpe", "tensor", "may import"},
		{"server/openai", "engine", "none of ours"},
		{"internal/cli", "internal/kernel", "do without"},
		{"internal/cli", "model/llama", "do without"},
		{"engine", "internal/testutil/guard", "for tests"},
		{"engine", "testing", "for tests"},
		{"kvcache", "testing/iotest", "for tests"},
		{"newcomer", "tensor", "not on the ladder"},
	} {
		why := forbidden(c.from, c.to)
		if (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s → %s: %q, expected %q", c.from, c.to, why, c.why)
		}
	}
}
