package engine

import (
	"errors"
	"fmt"
	"io"

	"github.com/nikolalohinski/gonja/v2/builtins"
	structures "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/parser"
)

// errEndless is what a template is stopped with.
var errEndless = errors.New("the template goes on without end")

// limited is a writer of at most left bytes. After them it panics with
// errEndless, because the interpreter goes on after an error.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	if len(p) > l.left {
		panic(errEndless)
	}
	l.left -= len(p)
	return l.w.Write(p)
}

// Limits on what a template may do.
const (
	maxTemplate = 1 << 17 // bytes of it
	maxBrackets = 200     // that are open at a time
	maxSteps    = 1 << 19 // statements, expressions, rounds of loops, numbers counted, and work on large values
	maxDepth    = 100     // macros within macros
	maxRange    = 1 << 16 // numbers counted at a time
)

// budget is what a template may still do. It ends the template by a panic with
// errEndless, because the interpreter goes on after an error.
type budget struct {
	steps, depth int
	text         int // bytes that it may write, into variables too
	most         int // bytes that a value may take
}

// checkSource refuses a template that the interpreter, which calls itself for
// whatever is within another thing, would need too much memory for.
func checkSource(template string) error {
	if len(template) > maxTemplate {
		return fmt.Errorf("the template has %d bytes, more than %d", len(template), maxTemplate)
	}
	open := 0
	for _, c := range template {
		switch c {
		case '(', '[', '{':
			if open++; open > maxBrackets {
				return fmt.Errorf("the template has brackets within more than %d others", maxBrackets)
			}
		case ')', ']', '}':
			open = max(open-1, 0)
		}
	}
	return nil
}

func (b *budget) spend(n int) {
	if b.steps -= n; b.steps < 0 {
		panic(errEndless)
	}
}

// structures are the statements that chat templates use, counted. Those that
// read other templates are not among them.
func (b *budget) structures() *exec.ControlStructureSet {
	set := map[string]parser.ControlStructureParser{}
	for _, name := range []string{"for", "if", "set", "macro", "call", "filter", "with", "raw", "do", "break", "continue"} {
		parse, ok := builtins.ControlStructures.Get(name)
		if !ok {
			continue
		}
		set[name] = func(p, args *parser.Parser) (nodes.ControlStructure, error) {
			node, err := parse(p, args)
			if statement, ok := node.(exec.ControlStructure); ok && err == nil {
				return &counted{statement, b, holder(node)}, nil
			}
			return node, err
		}
	}
	return exec.NewControlStructureSet(set)
}

// counted is a statement that is paid for each time it is executed.
type counted struct {
	exec.ControlStructure
	b      *budget
	holder nodes.Expression // of what is set, if it is no variable
}

func (c *counted) Execute(r *exec.Renderer, block *nodes.ControlStructureBlock) error {
	c.b.spend(1)
	switch s := c.ControlStructure.(type) {
	case *structures.ForControlStructure:
		if s.Recursive {
			return errors.New("recursive loops are not supported")
		}
		if list := r.Eval(s.ObjectEvaluator); !list.IsError() {
			c.b.spend(list.Len())
		}
	case *structures.SetControlStructure:
		err := s.Execute(r, block)
		if err == nil && c.holder != nil {
			c.b.weigh(r.Eval(c.holder))
		}
		return err
	case *structures.MacroControlStructure:
		if err := s.Execute(r, block); err != nil {
			return err
		}
		macro, err := exec.MacroNodeToFunc(s.Macro, r)
		if err != nil {
			return err
		}
		r.Environment.Context.Set(s.Name, c.b.macro(macro))
		return nil
	}
	return c.ControlStructure.Execute(r, block)
}

// macro is m, paid for each time it is called.
func (b *budget) macro(m exec.Macro) exec.Macro {
	return func(args *exec.VarArgs) *exec.Value {
		b.spend(1)
		if b.depth++; b.depth > maxDepth {
			panic(errEndless)
		}
		defer func() { b.depth-- }()
		return m(args)
	}
}

// numbers is Python's range(stop), (start, stop) or (start, stop, step).
// The interpreter's own has no bound, and loops make its numbers beforehand.
func (b *budget) numbers(args ...int) ([]int, error) {
	start, stop, step := 0, 0, 1
	switch len(args) {
	case 1:
		stop = args[0]
	case 2:
		start, stop = args[0], args[1]
	case 3:
		start, stop, step = args[0], args[1], args[2]
	}
	if len(args) < 1 || len(args) > 3 || step == 0 {
		return nil, fmt.Errorf("range%v: expected stop, start and stop, or start, stop and a step other than 0", args)
	}
	var list []int
	for i := start; step > 0 && i < stop || step < 0 && i > stop; i += step {
		if len(list) == maxRange {
			return nil, fmt.Errorf("range%v: more than %d numbers", args, maxRange)
		}
		b.spend(1)
		list = append(list, i)
	}
	return list, nil
}

// turns is the list of messages. The interpreter's own lists cannot be indexed
// from their end as far as their first element.
type turns []any

// GetItem is what square brackets do.
func (t turns) GetItem(key any) (*exec.Value, bool) {
	i, ok := key.(int)
	if i < 0 {
		i += len(t)
	}
	if !ok || i < 0 || i >= len(t) {
		return exec.AsValue(nil), false
	}
	return exec.AsValue(t[i]), true
}
