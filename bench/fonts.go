package bench

import (
	"golang.org/x/image/font/gofont/gobold"
	"golang.org/x/image/font/gofont/gobolditalic"
	"golang.org/x/image/font/gofont/goitalic"
	"golang.org/x/image/font/gofont/goregular"
	"gonum.org/v1/plot/font/liberation"

	"triforce/internal/mem"
)

// ReleaseFonts gives back the memory of the fonts of plots, which their libraries
// look through when the program starts. A plot reads them again.
func ReleaseFonts() {
	fonts := parts{gobold.TTF, gobolditalic.TTF, goitalic.TTF, goregular.TTF}
	for _, f := range liberation.Collection() {
		_, _ = f.Face.WriteSourceTo(nil, &fonts)
	}
	mem.Release(fonts...)
}

// parts is a writer that keeps what it is given.
type parts [][]byte

func (p *parts) Write(b []byte) (int, error) {
	*p = append(*p, b)
	return len(b), nil
}
