package merge

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// TestShortAndLongAgree merges random words of few symbols, where equal ranks
// and overlaps abound, in both ways.
func TestShortAndLongAgree(t *testing.T) {
	var s Scratch
	for seed := range uint64(3000) {
		rng := rand.New(rand.NewPCG(seed, 0))
		table := NewTable(40)
		for range rng.IntN(40) {
			table.Add(rng.Int32N(8), rng.Int32N(8), rng.Uint32N(10), rng.Int32N(8))
		}
		word := make([]int32, rng.IntN(shortWord+1))
		for i := range word {
			word[i] = rng.Int32N(9) - 1
		}
		short := table.mergeShort(slices.Clone(word))
		long := table.mergeLong(slices.Clone(word), &s)
		if !slices.Equal(short, long) {
			t.Fatalf("seed %d, %v: short gives %v, long %v", seed, word, short, long)
		}
	}
}

func TestTable(t *testing.T) {
	table := NewTable(3)
	table.Add(1, 2, 5, 9)
	table.Add(2, 1, 6, 8)
	table.Add(1, 2, 4, 7)
	for _, c := range []struct {
		left, right int32
		want        pair
	}{
		{1, 2, pair{4, 7}}, {2, 1, pair{6, 8}}, {1, 1, pair{rank: noRank}},
		{-1, 2, pair{rank: noRank}}, {1, -2, pair{rank: noRank}}, {-1, -1, pair{rank: noRank}},
	} {
		if got := table.lookup(c.left, c.right); got != c.want {
			t.Errorf("(%d, %d): got %v, want %v", c.left, c.right, got, c.want)
		}
	}
	if got := NewTable(0).lookup(0, 0); got.rank != noRank {
		t.Errorf("the empty table knows %v", got)
	}
}

func TestCache(t *testing.T) {
	c := NewCache()
	words := make(map[string][]int32)
	for i := range int32(4 * cacheSlots) {
		word := string(rune('a'+i%26)) + string(rune(0x4E00+i/26%20000)) + string(rune('a'+i/520000))
		words[word] = []int32{i, -i}
		c.Put(word, words[word])
	}
	hits := 0
	for word, want := range words {
		got, ok := c.Get([]int32{42}, word)
		if ok {
			hits++
			want = append([]int32{42}, want...)
		} else {
			want = []int32{42}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q: got %v, want %v", word, got, want)
		}
	}
	if hits == 0 || hits > cacheSlots {
		t.Errorf("%d words in %d slots", hits, cacheSlots)
	}
	long := string(make([]byte, maxWord+1))
	c.Put(long, []int32{1})
	if _, ok := c.Get(nil, long); ok {
		t.Error("a long word was kept")
	}
}

func BenchmarkMergeLong(b *testing.B) {
	table := NewTable(20)
	for i := range int32(20) {
		table.Add(i, i, uint32(i), i+1)
	}
	var s Scratch
	word := make([]int32, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		clear(word)
		if got := table.Merge(word, &s); len(got) != 1 {
			b.Fatal(len(got))
		}
	}
}
