package safetensors

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"

	"triforce/tensor"
)

// Limits on what a header may ask for, far above what models have.
const (
	maxHeader  = 100 << 20
	maxTensors = 1 << 16
	maxDims    = 4
)

// entry describes one tensor as the header has it, checked.
type entry struct {
	name       string
	format     string // as the header spells it
	known      bool   // that dtype and shape below are set
	dtype      tensor.DType
	rows, cols int
	from, to   int // from the start of the file
}

// parse reads a whole header. Entries come in the order of their data.
func parse(path string, data []byte) ([]entry, error) {
	if len(data) < 8 {
		return nil, corrupt(path, 0, "expected the header's length in 8 bytes, found a file of %d", len(data))
	}
	if strings.HasPrefix(string(data[:4]), "GGUF") {
		return nil, corrupt(path, 0, "expected a safetensors header, found a GGUF file")
	}
	n := binary.LittleEndian.Uint64(data)
	if limit := min(maxHeader, uint64(len(data)-8)); n > limit {
		return nil, corrupt(path, 0, "expected a header of at most %d bytes, found length %d", limit, n)
	}
	start := 8 + int(n)
	var header map[string]json.RawMessage
	if err := decodeJSON(path, 8, data[8:start], &header); err != nil {
		return nil, err
	}
	delete(header, "__metadata__") // free-form
	if len(header) > maxTensors {
		return nil, corrupt(path, 8, "expected at most %d tensors, found %d", maxTensors, len(header))
	}
	room := uint64(len(data) - start)
	var entries []entry
	for _, name := range slices.Sorted(maps.Keys(header)) {
		var h struct {
			DType   string   `json:"dtype"`
			Shape   []uint64 `json:"shape"`
			Offsets []uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(header[name], &h); err != nil || name == "" || h.Shape == nil || len(h.Shape) > maxDims || len(h.Offsets) != 2 {
			return nil, corrupt(path, 8, "tensor %.64q: expected a dtype, a shape of up to %d dimensions and two data_offsets, found %.100q", name, maxDims, header[name])
		}
		from, to := h.Offsets[0], h.Offsets[1]
		if from > to || to > room {
			return nil, corrupt(path, 8, "tensor %.64q: expected data within %d bytes, found offsets [%d, %d]", name, room, from, to)
		}
		e := entry{name: name, format: h.DType, from: start + int(from), to: start + int(to)}
		e.dtype, e.known = dtypeOf(h.DType)
		if e.known {
			rows, cols, ok := shape(h.Shape, uint64(e.dtype.BlockBytes()), to-from)
			if !ok {
				return nil, corrupt(path, 8, "tensor %.64q: expected %s data of positive shape %v, found %d bytes", name, h.DType, h.Shape, to-from)
			}
			e.rows, e.cols = rows, cols
		}
		entries = append(entries, e)
	}
	slices.SortStableFunc(entries, func(a, b entry) int {
		return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
	})
	end := start
	for _, e := range entries {
		if e.from != end {
			return nil, corrupt(path, end, "tensor %.64q: expected its data here, right behind the others', found it at %d", e.name, e.from)
		}
		end = e.to
	}
	if end != len(data) {
		return nil, corrupt(path, end, "expected the end of the file, found %d more bytes", len(data)-end)
	}
	return entries, nil
}

// shape returns the rows and columns of a tensor whose elements have that size,
// and whether they take exactly that many bytes.
func shape(dims []uint64, size, total uint64) (rows, cols int, ok bool) {
	n := size
	for _, d := range dims {
		high, low := bits.Mul64(n, d)
		if high != 0 || low > math.MaxInt64 || d == 0 {
			return 0, 0, false
		}
		n = low
	}
	if n != total {
		return 0, 0, false
	}
	cols = 1
	if len(dims) > 0 {
		cols = int(dims[len(dims)-1])
	}
	return int(total/size) / cols, cols, true
}

func dtypeOf(name string) (tensor.DType, bool) {
	switch name {
	case "F32":
		return tensor.F32, true
	case "F16":
		return tensor.F16, true
	case "BF16":
		return tensor.BF16, true
	}
	return 0, false
}
