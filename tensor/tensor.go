package tensor

// Tensor is a view of a stored vector or matrix, in the row order that models
// use (rotary pairs of Q and K rows are half a head apart, as in the Hugging
// Face layout), whatever order the file has.
type Tensor struct {
	Name  string
	DType DType
	// Rows and Cols give the matrix shape: Rows outputs, each of Cols inputs
	// stored contiguously. A vector has Rows 1.
	Rows, Cols int
	// Data holds Rows·DType.RowBytes(Cols) bytes, row after row as stored.
	Data []byte
	// Order maps a row to the place where the file stores it; nil means that
	// they are the same.
	Order []int32
}

// Row returns the stored bytes of row r.
func (t *Tensor) Row(r int) []byte {
	if t.Order != nil {
		r = int(t.Order[r])
	}
	n := t.DType.RowBytes(t.Cols)
	return t.Data[r*n : (r+1)*n : (r+1)*n]
}

// Bytes is the size of the stored data.
func (t *Tensor) Bytes() int64 { return int64(len(t.Data)) }
