package cpu

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestTiers says which tiers this processor runs, and so which ones the tests
// of kernels and models cover. TRIFORCE_REQUIRE lists tiers that must be among
// them, separated by commas: a machine that is there to test a tier must not
// skip it in silence.
func TestTiers(t *testing.T) {
	tiers := Tiers()
	t.Logf("tiers of this processor: %v", tiers)
	if len(tiers) < 2 || tiers[0] != Reference || tiers[1] != Portable {
		t.Errorf("the tiers are %v, expected reference and portable first", tiers)
	}
	if !slices.IsSorted(tiers) {
		t.Errorf("the tiers are %v, expected ascending order", tiers)
	}
	if Best() != tiers[len(tiers)-1] {
		t.Errorf("the best tier is %v of %v", Best(), tiers)
	}
	for _, name := range strings.FieldsFunc(os.Getenv("TRIFORCE_REQUIRE"), func(r rune) bool { return r == ',' }) {
		tier, err := Parse(name)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Contains(tiers, tier) {
			t.Errorf("tier %v is required, and this processor has %v", tier, tiers)
		}
	}
}

func TestParse(t *testing.T) {
	for tier := Reference; tier <= NEON; tier++ {
		got, err := Parse(tier.String())
		if err != nil || got != tier {
			t.Errorf("Parse(%q) = %v, %v", tier.String(), got, err)
		}
	}
	for _, name := range []string{"", "AVX2", "sse"} {
		if _, err := Parse(name); err == nil || !strings.Contains(err.Error(), "reference, portable, avx2, avx512, amx, neon") {
			t.Errorf("Parse(%q): %v, expected an error that lists the tiers", name, err)
		}
	}
}
