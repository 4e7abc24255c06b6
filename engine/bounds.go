package engine

import (
	"fmt"
	"reflect"
	"strings"
	"unsafe"

	"github.com/nikolalohinski/gonja/v2/builtins"
	structures "github.com/nikolalohinski/gonja/v2/builtins/control_structures"
	"github.com/nikolalohinski/gonja/v2/exec"
	"github.com/nikolalohinski/gonja/v2/nodes"
	"github.com/nikolalohinski/gonja/v2/tokens"
)

// The interpreter computes expressions as they are, however large they get, and
// has no place to look at what they make. So checks are put into the tree of a
// template, as filters of these names, which no template can spell.
const (
	used    = "<used>"    // counts
	made    = "<made>"    // counts and weighs a value
	written = "<written>" // weighs text that is written
	times   = "<times>"   // is the operator *
)

// How deep values may lie within each other, and parts of a template.
const (
	maxNested = 64
	maxTree   = 250
)

// weigh counts a value, and ends the template if it is too large.
func (b *budget) weigh(v *exec.Value) {
	if v == nil || v.IsError() || !v.Val.IsValid() {
		b.spend(1)
		return
	}
	s := scale{most: b.most}
	s.add(v.Val, 0)
	b.spend(1 + s.items/32)
	if v.IsString() {
		b.spend(s.bytes / 64)
	}
}

// scale adds up what a value is made of.
type scale struct{ bytes, items, most int }

func (s *scale) add(v reflect.Value, nested int) {
	if nested > maxNested {
		panic(errEndless)
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			s.add(v.Elem(), nested+1)
		}
		return
	case reflect.String:
		s.bytes += v.Len()
	}
	const header = 16
	s.items++
	if s.bytes += header; s.bytes > s.most {
		panic(errEndless)
	}
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			s.add(v.Index(i), nested+1)
		}
	case reflect.Map:
		for each := v.MapRange(); each.Next(); {
			s.add(each.Key(), nested+1)
			s.add(each.Value(), nested+1)
		}
	case reflect.Struct:
		if value, ok := v.Interface().(exec.Value); ok {
			if value.Val.IsValid() {
				s.add(value.Val, nested+1)
			}
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				s.add(v.Field(i), nested+1)
			}
		}
	}
}

// repeated ends the template if n pieces of that size are too large.
func (b *budget) repeated(n, size int) {
	if n > 0 && size > b.most/n {
		panic(errEndless)
	}
}

// allowed are the filters that chat templates use. Others make values of sizes
// that are numbers, or take their time.
const allowed = "abs attr capitalize count d default dictsort e escape first float groupby indent int items join last length list lower " +
	"map max min reject rejectattr replace reverse round safe select selectattr sort string sum title tojson trim truncate unique upper urlencode wordcount"

// cheap are filters that do not look at all of a list.
const cheap = " count d default first last length "

// filters are those that a template may use, and the checks.
func (b *budget) filters() *exec.FilterSet {
	set := map[string]exec.FilterFunction{
		used: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			b.spend(1)
			return in
		},
		made: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			b.weigh(in)
			return in
		},
		written: func(_ *exec.Evaluator, in *exec.Value, _ *exec.VarArgs) *exec.Value {
			if b.weigh(in); !in.IsError() {
				b.write(len(in.String()))
			}
			return in
		},
		times: b.times,
	}
	for _, name := range strings.Fields(allowed) {
		filter, ok := builtins.Filters.Get(name)
		if !ok {
			continue
		}
		set[name] = func(e *exec.Evaluator, in *exec.Value, args *exec.VarArgs) *exec.Value {
			if in.IsString() || !strings.Contains(cheap, " "+name+" ") {
				b.weigh(in)
			}
			switch name {
			case "replace":
				b.replaces(in.String(), args)
			case "join":
				b.repeated(in.Len(), len(argument(args, 0, "d").String()))
			case "indent":
				width := argument(args, 0, "width")
				b.repeated(strings.Count(in.String(), "\n")+1, max(width.Integer(), len(width.String())))
			case "tojson":
				if argument(args, 0, "indent").Integer() > 8 {
					panic(errEndless)
				}
			}
			out := filter(e, in, args)
			b.weigh(out)
			return out
		}
	}
	return exec.NewFilterSet(set)
}

// argument is the i-th argument, or that of the name; nothing if there is none.
func argument(args *exec.VarArgs, i int, name string) *exec.Value {
	if i < len(args.Args) {
		return args.Args[i]
	}
	if v, ok := args.KwArgs[name]; ok {
		return v
	}
	return exec.AsValue("")
}

func (b *budget) replaces(text string, args *exec.VarArgs) {
	b.repeated(strings.Count(text, argument(args, 0, "old").String()), len(argument(args, 1, "new").String()))
}

// write counts text of n bytes that is written.
func (b *budget) write(n int) {
	if b.text -= n; b.text < 0 {
		panic(errEndless)
	}
}

// times is the product of numbers, or a text again and again.
func (b *budget) times(_ *exec.Evaluator, left *exec.Value, args *exec.VarArgs) *exec.Value {
	right := args.Args[0]
	switch {
	case left.IsError():
		return left
	case left.IsFloat() || right.IsFloat():
		return exec.AsValue(left.Float() * right.Float())
	case left.IsString():
		n := max(right.Integer(), 0)
		b.repeated(n, len(left.String()))
		return exec.AsValue(strings.Repeat(left.String(), n))
	}
	return exec.AsValue(left.Integer() * right.Integer())
}

// methods are those that a template may call.
func (b *budget) methods() exec.Methods {
	all := builtins.Methods
	return exec.Methods{
		Bool: all.Bool, Int: all.Int, Float: all.Float,
		Str: methods(b, all.Str, "capitalize casefold count endswith find isalnum isalpha isascii isdecimal isdigit islower isnumeric isprintable isspace istitle isupper "+
			"join lower lstrip partition removeprefix removesuffix replace rfind rpartition rsplit rstrip split splitlines startswith strip swapcase title upper"),
		Dict: methods(b, all.Dict, "copy get items keys values"),
		List: methods(b, all.List, "append copy reverse"),
	}
}

// methods are those of the names, checked.
func methods[T any](b *budget, all *exec.MethodSet[T], names string) *exec.MethodSet[T] {
	set := map[string]exec.Method[T]{}
	for _, name := range strings.Fields(names) {
		method, ok := all.Get(name)
		if !ok {
			continue
		}
		set[name] = func(self T, value *exec.Value, args *exec.VarArgs) (any, error) {
			b.weigh(value)
			switch name {
			case "replace":
				b.replaces(value.String(), args)
				if len(args.Args) == 2 { // the interpreter wants to know how often
					args.Args = append(args.Args, exec.AsValue(-1))
				}
			case "join":
				b.repeated(argument(args, 0, "iterable").Len(), len(value.String()))
			}
			result, err := method(self, value, args)
			b.weigh(value) // which it may have changed
			return result, err
		}
	}
	return exec.NewMethodSet(set)
}

// holder is the expression of what a statement sets a part of, or nil.
func holder(statement nodes.Node) nodes.Expression {
	set, ok := statement.(*structures.SetControlStructure)
	if !ok {
		return nil
	}
	var of nodes.Node
	switch target := member(reflect.ValueOf(set).Elem(), "target").Interface().(type) {
	case *nodes.GetAttribute:
		of = target.Node
	case *nodes.GetItem:
		of = target.Node
	}
	e, _ := of.(nodes.Expression)
	return e
}

// member is a field of an addressable struct, exported or not.
func member(v reflect.Value, name string) reflect.Value {
	f := v.FieldByName(name)
	return reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()
}

// check puts checks into a template, if it is not too deep.
func (b *budget) check(root *nodes.Template) error {
	if !b.visit(reflect.ValueOf(root), map[unsafe.Pointer]bool{}, 0) {
		return fmt.Errorf("the template is deeper than %d levels", maxTree)
	}
	return nil
}

var (
	nodeType       = reflect.TypeFor[nodes.Node]()
	expressionType = reflect.TypeFor[nodes.Expression]()
)

// visit replaces the nodes in all places below v that hold any, and reports
// whether they are not too deep.
func (b *budget) visit(v reflect.Value, seen map[unsafe.Pointer]bool, depth int) bool {
	ok := depth <= maxTree
	switch v.Kind() {
	case reflect.Interface:
		if v.IsNil() || !ok {
			return ok
		}
		ok = b.visit(v.Elem(), seen, depth+1)
		if v.Type() == nodeType || v.Type() == expressionType {
			v.Set(reflect.ValueOf(b.checked(v.Interface().(nodes.Node))))
		}
	case reflect.Pointer:
		if !v.IsNil() && !seen[v.UnsafePointer()] && v.Type() != reflect.TypeFor[*tokens.Token]() && v.Type() != reflect.TypeFor[*budget]() {
			seen[v.UnsafePointer()] = true
			ok = b.visit(v.Elem(), seen, depth)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			name := v.Type().Field(i).Name
			f := member(v, name)
			// What is called or set is told by its kind.
			if f.Kind() == reflect.Interface && (name == "Func" || name == "Parent" || name == "target") {
				f = f.Elem()
			}
			ok = b.visit(f, seen, depth) && ok
		}
	case reflect.Slice:
		for i := range v.Len() {
			ok = b.visit(v.Index(i), seen, depth) && ok
		}
	case reflect.Map:
		for _, key := range v.MapKeys() {
			value := reflect.New(v.Type().Elem()).Elem()
			value.Set(v.MapIndex(key))
			ok = b.visit(value, seen, depth) && ok
			v.SetMapIndex(key, value)
		}
	}
	return ok
}

// checked is what takes the place of a node.
func (b *budget) checked(node nodes.Node) nodes.Node {
	switch n := node.(type) {
	case *nodes.Data:
		return &nodes.ControlStructureBlock{Location: n.Data, Name: "text", ControlStructure: &literal{n, b}}
	case *nodes.Output:
		n.Expression = filtered(n.Expression, written)
		if n.Alternative != nil {
			n.Alternative = filtered(n.Alternative, written)
		}
	case *nodes.BinaryExpression:
		switch n.Operator.Token.Type {
		case tokens.Multiply:
			return filtered(filtered(n.Left, times, n.Right), made)
		case tokens.And, tokens.Or:
		default:
			n.Left, n.Right = filtered(n.Left, made), filtered(n.Right, made)
		}
		return filtered(n, made)
	case *nodes.TestExpression:
		n.Expression = filtered(n.Expression, made)
		for i, arg := range n.Test.Args {
			n.Test.Args[i] = filtered(arg, made)
		}
		return filtered(n, used)
	case *nodes.List, *nodes.Tuple, *nodes.Dict, *nodes.GetSlice, *nodes.Call:
		return filtered(node.(nodes.Expression), made)
	case *nodes.GetItem, *nodes.GetAttribute, *nodes.Negation, *nodes.UnaryExpression:
		return filtered(node.(nodes.Expression), used)
	}
	return node
}

func filtered(e nodes.Expression, filter string, args ...nodes.Expression) nodes.Expression {
	return &nodes.FilteredExpression{Expression: e, Filters: []*nodes.FilterCall{{Token: e.Position(), Name: filter, Args: args}}}
}

// literal is text outside of tags, counted.
type literal struct {
	*nodes.Data
	b *budget
}

// Execute writes the text.
func (l *literal) Execute(r *exec.Renderer, _ *nodes.ControlStructureBlock) error {
	l.b.spend(1)
	l.b.write(len(l.Data.Data.Val))
	_, err := r.Visit(l.Data)
	return err
}
