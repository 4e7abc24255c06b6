package engine

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"triforce/tokenizer"
)

// TestRenderChat renders templates that use what chat templates use, in the
// manner of several families of models.
func TestRenderChat(t *testing.T) {
	user := []Message{{"user", " hi\n<b>\xff& ü "}}
	withSystem := []Message{{"system", "Be brief."}, {"user", "1+1?"}, {"assistant", "2"}, {"user", "sure?"}}
	for _, c := range []struct {
		name, template string
		messages       []Message
		want, fails    string
	}{
		{
			name: "text is kept byte by byte",
			template: "{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{{ m.content }}{% endfor %}" +
				"{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
			messages: user,
			want:     "<|user|> hi\n<b>\xff& ü <|assistant|>\n",
		},
		{
			name: "a default system message",
			template: "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}" +
				"{{ '<sys>You help.</sys>' }}{% endif %}{{ message['role'] }}:{{ message['content'] }};{% endfor %}",
			messages: []Message{{"user", "hi"}},
			want:     "<sys>You help.</sys>user:hi;",
		},
		{
			name: "blocks on lines of their own leave none behind",
			template: "{{ bos_token }}\n" +
				"{%- for m in messages %}\n" +
				"    {%- if m.role == 'user' %}\n" +
				"        {{- '[Q] ' + m.content | trim + ' [/Q]' }}\n" +
				"    {%- elif m.role == 'assistant' %}\n" +
				"        {{- ' ' + m.content + eos_token }}\n" +
				"    {%- endif %}\n" +
				"{%- endfor %}\n",
			messages: withSystem,
			want:     "<s>[Q] 1+1? [/Q] 2</s>[Q] sure? [/Q]",
		},
		{
			name: "trimmed blocks",
			template: "{% for m in messages %}\n" +
				"  {% if m['role'] == 'user' %}\n" +
				"U {{ m['content'] }}\n" +
				"  {% endif %}\n" +
				"{% endfor %}\n",
			messages: withSystem,
			want:     "U 1+1?\nU sure?\n",
		},
		{
			name: "slices, namespaces and dates",
			template: "{%- if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}" +
				"{%- if messages[0]['role'] == 'system' %}{% set sys = messages[0]['content'] %}{% set messages = messages[1:] %}" +
				"{%- else %}{% set sys = '' %}{% endif %}" +
				"{%- set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}" +
				"{{ date_string }}|{{ sys }}|{{ ns.n }}|{{ messages[-1].content }}",
			messages: withSystem,
			want:     "09 Mar 2024|Be brief.|3|sure?",
		},
		{
			name:     "string methods",
			template: "{% for m in messages %}{{ m.content.strip().upper() }}{% if not loop.last %},{% endif %}{% endfor %}",
			messages: withSystem,
			want:     "BE BRIEF.,1+1?,2,SURE?",
		},
		{
			name: "replaced text and products",
			template: "{{ messages[0].content.replace('1', 'one') }}|{{ messages[0].content | replace('1', '2') }}|{{ 2 * 3 }}|{{ 2 * 1.5 }}|{{ 'ab' * 3 }}|{{ 'ab' * -1 }}|" +
				"{{ ['a', 'b'] | join('-') }}|{{ '-'.join(['a', 'b']) }}|{{ 'a\nb' | indent(2) }}|{% filter upper %}x{% endfilter %}|{% set y %}z{% endset %}{{ y }}",
			messages: []Message{{"user", "1+1?"}},
			want:     "one+one?|2+2?|6|3.0|ababab||a-b|a-b|a\n  b|X|z",
		},
		{
			name:     "parts of variables",
			template: "{% set ns = namespace(d={'a': 1}) %}{% set l = [1] %}{% set x = l.append(2) %}{% for k, v in ns.d.items() %}{{ k }}{{ v }}{% endfor %}{{ l }}{{ ns.d.get('a') }}",
			messages: user,
			want:     "a1[1, 2]1",
		},
		{
			name:     "undefined things are nothing",
			template: "{% if tools %}tools{% endif %}{{ messages | length }}",
			messages: user,
			want:     "1",
		},
		{
			name:     "a refusal",
			template: "{% if messages[0].role == 'system' %}{{ raise_exception('no system messages') }}{% endif %}",
			messages: withSystem,
			fails:    "no system messages",
		},
		{name: "a mistake", template: "{% for %}", messages: user, fails: "for"},
		{name: "no files", template: "{% include '/etc/hostname' %}", messages: user, fails: "include"},
		{name: "not itself", template: "{% include '/chat_template' %}", messages: user, fails: "include"},
		{
			name:     "loops that write nothing",
			template: "{% for i in range(60000) %}{% for j in range(60000) %}{% endfor %}{% endfor %}",
			messages: user, fails: "without end",
		},
		{
			name:     "loops over one list",
			template: "{% set l = range(60000) %}{% for i in l %}{% for j in l %}{% endfor %}{% endfor %}",
			messages: user, fails: "without end",
		},
		{
			name:     "numbers that nobody uses",
			template: "{% for i in range(60000) %}{% set l = range(60000) %}{% endfor %}",
			messages: user, fails: "without end",
		},
		{name: "a macro that calls itself", template: "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", messages: user, fails: "without end"},
		{
			name:     "macros that call each other",
			template: "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
			messages: user, fails: "without end",
		},
		{name: "a recursive loop", template: "{% for i in [1] recursive %}{{ loop([1]) }}{% endfor %}", messages: user, fails: "recursive"},
		{
			name:     "the last of one",
			template: "{{ messages[-1].content }}{{ messages[-1]['role'] }}{{ messages[0].role }}{{ messages[-2] is defined }}{{ messages[1:] | length }}{{ messages[:1][-1].role }}",
			messages: []Message{{"user", "hi"}}, want: "hiuseruserFalse0user",
		},
		{
			name:     "macros",
			template: "{% macro f(m, mark='!') %}{{ m.role }}{{ mark }}{% endmacro %}{% for m in messages %}{{ f(m) }}{% endfor %}{{ f(messages[0], mark='?') }}",
			messages: withSystem, want: "system!user!assistant!user!system?",
		},
		{
			name:     "no end",
			template: "{% for i in range(60000) %}{{ 'spam spam spam spam spam' }}{% endfor %}",
			messages: user, fails: "without end",
		},
		{name: "a long count", template: "{% for i in range(99999999) %}{% endfor %}", messages: user, fails: "more than"},
		{
			name:     "counts",
			template: "{% for i in range(3) %}{{ i }}{% endfor %}{% for i in range(2, 4) %}{{ i }}{% endfor %}{% for i in range(5, 0, -2) %}{{ i }}{% endfor %}",
			messages: user, want: "01223531",
		},
		{name: "none", messages: user, fails: "carries none"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := tokenizer.NewVocab(&tokenizer.Spec{
				Model: tokenizer.MergeList, Tokens: []string{"<s>", "</s>", "a"}, BOS: 0, EOS: 1, Unk: -1,
				ChatTemplate: c.template,
			})
			if err != nil {
				t.Fatal(err)
			}
			got, err := renderChat(v, c.messages, time.Date(2024, 3, 9, 17, 5, 1, 0, time.UTC))
			switch {
			case c.fails != "":
				if err == nil || !strings.Contains(err.Error(), c.fails) || strings.Contains(err.Error(), made) || strings.Contains(err.Error(), written) {
					t.Errorf("got %q, %v; expected an error with %q", got, err, c.fails)
				}
			case err != nil:
				t.Error(err)
			case got != c.want:
				t.Errorf("got  %q\nwant %q", got, c.want)
			}
		})
	}
}

// Templates that would take memory or time without bound end with an error, after
// little of either.
func TestHostileTemplates(t *testing.T) {
	grow := func(set string) string {
		return "{% set ns = namespace(x='xxxxxxxx', l=[1], d={}) %}{% for i in range(60) %}" + set + "{% endfor %}{{ ns.x | length }}"
	}
	for name, template := range map[string]string{
		"times":                 "{{ 'x' * 1000000000 }}",
		"times in turn":         "{{ 'x' * 1000 * 1000 * 1000 }}",
		"times of a variable":   "{% set n = 1000000000 %}{% set x = 'x' %}{% if (x * n) | length > 5 %}{% endif %}",
		"times within":          "{{ [1, ('x' * 1000000000)] | length }}{{ messages[('x' * 1000000000) | length] }}",
		"times in arguments":    "{% macro f(x, y='x' * 1000000000) %}{{ y | length }}{% endmacro %}{{ f(1) }}",
		"times in a call":       "{% macro f() %}{{ caller() | length }}{% endmacro %}{% call f() %}{{ 'x' * 1000000000 }}{% endcall %}",
		"times in a filter":     "{{ 'a' | replace('a', 'x' * 1000000000) | length }}",
		"times in a loop":       "{% for i in [1] if ('x' * 1000000000) | length %}{% endfor %}",
		"times in a part":       "{% set ns = namespace(d={}) %}{% set ns.d['x' * 1000000000] = 1 %}",
		"times in a block":      "{% filter upper %}{{ 'x' * 1000000000 }}{% endfilter %}",
		"times with a name":     "{% with x = 'x' * 1000000000 %}{{ x | length }}{% endwith %}",
		"twice by +":            grow("{% set ns.x = ns.x + ns.x %}"),
		"twice by ~":            grow("{% set ns.x = ns.x ~ ns.x %}"),
		"twice by a block":      "{% set ns = namespace(x='xxxxxxxx') %}{% macro f(x) %}{{ x }}{{ x }}{% endmacro %}{% for i in range(60) %}{% set ns.x = f(ns.x) %}{% endfor %}",
		"twice by text":         strings.Repeat("{% set x %}{{ x }}{{ x }}xxxxxxxx{% endset %}", 60),
		"twice by a list":       grow("{% set ns.l = ns.l + ns.l %}"),
		"twice by join":         grow("{% set ns.x = [ns.x, ns.x] | join(ns.x) %}"),
		"twice by the method":   grow("{% set ns.x = ns.x.join([ns.x, ns.x]) %}"),
		"twice by replace":      grow("{% set ns.x = ns.x | replace('x', 'xx') %}"),
		"squares":               grow("{% set ns.x = ns.x | replace('x', ns.x) %}"),
		"squares by the method": grow("{% set ns.x = ns.x.replace('x', ns.x) %}"),
		"lists of lists":        grow("{% set ns.l = [ns.l, ns.l] %}"),
		"dictionaries":          grow("{% set ns.d = {'a': ns.d, 'b': ns.d} %}"),
		"itself":                "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
		"equal to itself":       "{% set ns = namespace() %}{% set ns.a = ns %}{% if ns == ns %}{% endif %}",
		"text for variables":    "{% set x %}{% for i in range(60000) %}" + strings.Repeat("x", 1000) + "{% endfor %}{% endset %}",
		"text for a filter":     "{% filter length %}{% for i in range(60000) %}{{ '" + strings.Repeat("x", 1000) + "' }}{% endfor %}{% endfilter %}",
		"center":                "{{ 'x' | center(1000000000) }}",
		"center by the method":  "{{ 'x'.center(1000000000) }}",
		"ljust":                 "{{ 'x'.ljust(1000000000) }}{{ 'x'.rjust(1000000000) }}",
		"zeros":                 "{{ 'x'.zfill(1000000000) }}",
		"tabs":                  "{{ '\t'.expandtabs(1000000000) }}",
		"format":                "{{ '%1000000000d' | format(1) }}",
		"format by the method":  "{{ '{:1000000000}'.format(1) }}",
		"lines":                 "{{ 'a b' | wordwrap(1, wrapstring='x' * 1000000) }}",
		"indent":                "{{ ('\n' * 100000) | indent(100000) }}",
		"indent by name":        "{{ ('\n' * 100000) | indent(width=100000) }}",
		"json":                  "{{ [1] | tojson(indent=1000000000) }}",
		"slices":                "{{ [1] | slice(1000000000) | list }}",
		"batches":               "{{ [1] | batch(1000000000, 'x') | list }}",
		"Latin":                 "{{ lipsum(n=1000000000) }}",
		"methods of methods":    "{{ 'x'" + strings.Repeat(".strip()", 100) + " }}",
		"long expressions":      "{% for i in range(60000) %}{% if true" + strings.Repeat(" and i == i", 1000) + " %}{% endif %}{% endfor %}",
		"members of members":    "{% for i in range(60000) %}{{ i" + strings.Repeat(".a", 10000) + " }}{% endfor %}",
		"comparisons":           "{% set l = range(60000) %}{% for i in l %}{% if -1 in l %}{% endif %}{% endfor %}",
		"filters of long lists": "{% set l = range(60000) %}{% for i in l %}{{ l | sum }}{% endfor %}",
		"long":                  strings.Repeat("x", 1<<20),
		"nots":                  "{{ " + strings.Repeat("not ", 30000) + "1 }}",
		"signs":                 "{{ " + strings.Repeat("-", 120000) + "1 }}",
		"branches":              strings.Repeat("{% if 1 %}", 12000),
		"branches of branches":  "{% if 0 %}" + strings.Repeat("{% elif 1 %}{% if 0 %}", 5000),
		"loops of loops":        strings.Repeat("{% for i in [1] %}", 6000),
		"brackets":              "{{ " + strings.Repeat("(", 100000),
		"lists in lists":        "{{ " + strings.Repeat("[", 100000),
	} {
		t.Run(name, func(t *testing.T) {
			v, err := tokenizer.NewVocab(&tokenizer.Spec{
				Model: tokenizer.MergeList, Tokens: []string{"<s>", "</s>", "a"}, BOS: 0, EOS: 1, Unk: -1, ChatTemplate: template,
			})
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			got, err := renderChat(v, []Message{{"user", "hi"}}, time.Time{})
			if err == nil {
				t.Errorf("got %.100q", got)
			}
			const most = 256 << 20
			if runtime.ReadMemStats(&after); after.Sys-before.Sys > most {
				t.Errorf("%d MiB more until %.100v", (after.Sys-before.Sys)>>20, err)
			}
		})
	}
}

// FuzzChatTemplate renders any template: it ends, with an error or text.
func FuzzChatTemplate(f *testing.F) {
	f.Add("{% for m in messages %}{{ '<|' + m['role'] + '|>' }}{{ m.content | trim }}{% endfor %}{% if add_generation_prompt %}{{ 'x' * 3 ~ bos_token }}{% endif %}")
	f.Add("{%- set ns = namespace(n=0) %}{% macro f(x, y=1) %}{{ x[1:] | tojson }}{% endmacro %}{% set ns.n = f(messages).strip() %}{{ ns.n if ns.n is defined else {'a': [1]} }}")
	f.Fuzz(func(t *testing.T, template string) {
		v, err := tokenizer.NewVocab(&tokenizer.Spec{
			Model: tokenizer.MergeList, Tokens: []string{"<s>", "</s>", "a"}, BOS: 0, EOS: 1, Unk: -1, ChatTemplate: template,
		})
		if err != nil {
			t.Fatal(err)
		}
		messages := []Message{{"system", "Be brief."}, {"user", "1+1?"}, {"assistant", "2"}}
		text, err := renderChat(v, messages, time.Time{})
		if err == nil && len(text) > maxChat+4*size(messages) {
			t.Fatalf("%d bytes", len(text))
		}
	})
}

func TestStrftime(t *testing.T) {
	at := time.Date(2024, 3, 9, 17, 5, 1, 0, time.UTC)
	for layout, want := range map[string]string{
		"%d %b %Y": "09 Mar 2024", "%A, %B %e": "Saturday, March  9", "%H:%M:%S %p": "17:05:01 PM",
		"%F %T": "2024-03-09 17:05:01", "%j 100%% %Q %": "069 100% %Q %", "": "",
	} {
		if got := strftime(at, layout); got != want {
			t.Errorf("%q: got %q, expected %q", layout, got, want)
		}
	}
}
