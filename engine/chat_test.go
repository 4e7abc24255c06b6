package engine

import (
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
				if err == nil || !strings.Contains(err.Error(), c.fails) {
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
