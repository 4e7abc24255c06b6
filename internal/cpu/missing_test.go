package cpu

import (
	"slices"
	"testing"
)

func TestMissing(t *testing.T) {
	tier, features, ok := Missing()
	if ok && (tier <= Best() || len(features) == 0 || slices.Contains(Tiers(), tier)) {
		t.Errorf("%v lacks %v, but the best is %v", tier, features, Best())
	}
}
