package distill

import (
	"os"
	"testing"

	"triforce/engine"
	"triforce/tokenizer"
)

// A text that goes round in circles is over, also if it counts them; one that
// says something is not.
func TestCircle(t *testing.T) {
	f, err := engine.OpenFile("", engine.Rope{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	prose, err := os.ReadFile("../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	list := "List what is good.\n"
	for i := range 100 {
		list += string(rune('0'+i/10)) + string(rune('0'+i%10)) + ". Better society and democracy\n"
	}
	for _, c := range []struct {
		what, text string
		closes     bool
	}{{"prose", string(prose), false}, {"a list", list, true}} {
		tokens := f.Tokenizer().Encode(nil, c.text, tokenizer.Options{})
		var watch circle
		at := 0
		for at < len(tokens) && !watch.closes(tokens[:at]) {
			at++
		}
		t.Logf("%s of %d tokens: %d", c.what, len(tokens), at)
		if closes := at < len(tokens); closes != c.closes || closes && at > 3*circleWindow {
			t.Errorf("%s of %d tokens ends after %d", c.what, len(tokens), at)
		}
	}
}
