// Package shared finds the optional test data: a folder called shared beside
// the repository. It is safe for concurrent use.
package shared

import (
	"os"
	"path/filepath"
	"testing"
)

// Path returns the path of a file among the test data. Without it the test is
// skipped, or fails where CI or TRIFORCE_REQUIRE_SHARED demand it.
func Path(t testing.TB, name string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; dir != filepath.Dir(dir); dir = filepath.Dir(dir) {
		path := filepath.Join(dir, "shared", filepath.FromSlash(name))
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" || os.Getenv("TRIFORCE_REQUIRE_SHARED") == "1" {
		t.Fatalf("no folder shared with %s above this one", name)
	}
	t.Skipf("no folder shared with %s above this one", name)
	return ""
}
