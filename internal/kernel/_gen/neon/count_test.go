package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// counts are the instructions of inner loops, and the products that these make:
// the measure of kernels where there is no processor to time them on. The note
// on NEON in docs draws conclusions from them.
var counts = []struct {
	kernel, loop                string
	all, vector, dots, products int
}{
	{"matMulQ4Rows1NEON", "block", 158, 126, 64, 512},
	{"matMulQ4Rows2NEON", "block", 265, 212, 128, 1024},
	{"matMulQ4Rows4NEON", "block", 459, 380, 256, 2048},
	{"matMulQ4Rows8NEON", "block", 858, 716, 512, 4096},
	{"matMulQ8Rows1NEON", "block", 150, 118, 64, 512},
	{"matMulQ8Rows2NEON", "block", 257, 200, 128, 1024},
	{"matMulQ8Rows4NEON", "block", 435, 360, 256, 2048},
	{"matMulQ8Rows8NEON", "block", 802, 680, 512, 4096},
	{"matMulQ8x16Rows1NEON", "block", 216, 156, 64, 512},
	{"matMulQ8x16Rows2NEON", "block", 365, 264, 128, 1024},
	{"matMulQ8x16Rows4NEON", "block", 623, 472, 256, 2048},
	{"matMulQ8x16Rows8NEON", "block", 1150, 888, 512, 4096},
	{"scoresQ8Rows1NEON", "elements", 45, 32, 16, 256},
	{"scoresQ8Rows2NEON", "elements", 63, 48, 32, 512},
	{"scoresQ8Rows3NEON", "elements", 81, 64, 48, 768},
	{"scoresQ8Rows4NEON", "elements", 99, 80, 64, 1024},
	{"valuesQ8Rows1NEON", "chunk", 48, 32, 32, 256},
	{"valuesQ8Rows2NEON", "chunk", 82, 64, 64, 512},
	{"valuesQ8Rows3NEON", "chunk", 64, 48, 48, 384},
	{"valuesQ8Rows4NEON", "chunk", 82, 64, 64, 512},
	{"softmaxIntsNEON", "largest", 9, 4, 0, 0}, // of 16 slots
	{"softmaxIntsNEON", "powers", 107, 74, 0, 0},
	{"roundNEON", "chunk", 23, 16, 0, 0},
}

// elsewhere matches what vector units do not do: memory, general registers.
var elsewhere = regexp.MustCompile(`^(F(LD|ST)PQ|FMOV[QDS]|MOVD|ADD|SUB|CMP|CBN?Z|B[A-Z]*) `)

func TestCounts(t *testing.T) {
	a := &asm{}
	write(a)
	for _, c := range counts {
		_, body, ok := strings.Cut(a.text.String(), "TEXT ·"+c.kernel+"(")
		if !ok {
			t.Errorf("no kernel %s", c.kernel)
			continue
		}
		body, _, _ = strings.Cut(body, "\tRET\n")
		all, vector, dots, products := 0, 0, 0, c.products
		for _, m := range regexp.MustCompile(fmt.Sprintf(`(?s)\n(%s\d+):\n(.*?\tCBNZ R\d+, (%[1]s\d+)\n)`, c.loop)).FindAllStringSubmatch(body, -1) {
			if m[1] != m[3] {
				t.Errorf("%s: %s ends with a jump to %s", c.kernel, m[1], m[3])
			}
			for line := range strings.Lines(m[2]) {
				if line[0] != '\t' { // a label
					continue
				}
				all++
				if !elsewhere.MatchString(line[1:]) {
					vector++
				}
				if strings.Contains(line, "// sdot") {
					dots++
				}
			}
		}
		if all != c.all || vector != c.vector || dots != c.dots {
			t.Errorf("%s, %s: %d instructions, %d vector, %d dot; the table says %d, %d, %d", c.kernel, c.loop, all, vector, dots, c.all, c.vector, c.dots)
		}
		if products > 0 {
			n := float64(products)
			t.Logf("%-22s %.3f instructions a product, %.3f vector; at two a cycle %.1f products, at four %.1f",
				c.kernel, float64(all)/n, float64(vector)/n, 2*n/float64(vector), 4*n/float64(vector))
		}
	}
}
