package cli

import (
	"context"
	"runtime"
	"slices"
	"testing"
)

func TestVersionFlags(t *testing.T) {
	w := newWorld("", nil)
	if err := parse(newVersion(w.System, func(_ context.Context, got *versionOptions) error {
		if !got.JSON || got.Sys != w.System {
			t.Errorf("%+v", got)
		}
		return nil
	}), []string{"--json"}); err != nil {
		t.Error(err)
	}
}

func TestVersion(t *testing.T) {
	var got versionReport
	(&run{name: "json", args: []string{"version", "--json"}, any: true}).test(t).decode(t, &got)
	if got.Version == "" || got.Go != runtime.Version() || !slices.Contains(got.Tiers, "portable") {
		t.Errorf("%+v", got)
	}
	(&run{name: "line", args: []string{"version"}, any: true}).test(t)
}
