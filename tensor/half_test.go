package tensor

import (
	"encoding/binary"
	"hash/crc32"
	"math"
	"testing"
)

// The checksums are those of numpy's conversions.
func TestF16AgainstNumpy(t *testing.T) {
	var wide, narrow []byte
	for h := range 1 << 16 {
		if f := F16ToF32(uint16(h)); f == f {
			wide = binary.LittleEndian.AppendUint32(wide, math.Float32bits(f))
		}
		if f := math.Float32frombits(uint32(h) * 65537); f == f {
			narrow = binary.LittleEndian.AppendUint16(narrow, F32ToF16(f))
		}
	}
	if got := crc32.ChecksumIEEE(wide); got != 0x58a2254b {
		t.Errorf("widened halves: checksum %#x", got)
	}
	if got := crc32.ChecksumIEEE(narrow); got != 0x1a3b45b2 {
		t.Errorf("narrowed floats: checksum %#x", got)
	}
}

func TestF16RoundsToNearestEven(t *testing.T) {
	for h := range uint16(0x7c00) {
		below, above := F16ToF32(h), F16ToF32(h+1)
		if h+1 == 0x7c00 {
			above = 65536 // where the next half would be
		}
		middle := below + (above-below)/2
		even := h + h&1
		for _, c := range []struct {
			f    float32
			want uint16
		}{
			{below, h},
			{math.Nextafter32(middle, below), h},
			{middle, even},
			{math.Nextafter32(middle, above), h + 1},
		} {
			if got := F32ToF16(c.f); got != c.want {
				t.Fatalf("F32ToF16(%g) = %#04x, want %#04x", c.f, got, c.want)
			}
			if got := F32ToF16(-c.f); got != c.want|0x8000 {
				t.Fatalf("F32ToF16(%g) = %#04x, want %#04x", -c.f, got, c.want|0x8000)
			}
		}
	}
}

func TestBF16RoundsToNearestEven(t *testing.T) {
	for h := range uint16(0x7f80) {
		bits := uint32(h) << 16
		for _, c := range []struct {
			add  uint32
			want uint16
		}{{0, h}, {0x7fff, h}, {0x8000, h + h&1}, {0x8001, h + 1}} {
			f := math.Float32frombits(bits + c.add)
			if got := F32ToBF16(f); got != c.want {
				t.Fatalf("F32ToBF16(%g) = %#04x, want %#04x", f, got, c.want)
			}
			if got := F32ToBF16(-f); got != c.want|0x8000 {
				t.Fatalf("F32ToBF16(%g) = %#04x, want %#04x", -f, got, c.want|0x8000)
			}
		}
		if got := BF16ToF32(h); math.Float32bits(got) != bits {
			t.Fatalf("BF16ToF32(%#04x) = %g", h, got)
		}
	}
}

func TestHalfNaNs(t *testing.T) {
	for _, c := range []struct{ wide, f16, bf16 uint32 }{
		{0x7f800001, 0x7e00, 0x7fc0},
		{0x7fc00000, 0x7e00, 0x7fc0},
		{0xffc12000, 0xfe09, 0xffc1},
		{0xffffffff, 0xffff, 0xffff},
	} {
		f := math.Float32frombits(c.wide)
		if got := F32ToF16(f); got != uint16(c.f16) {
			t.Errorf("F32ToF16(%#x) = %#x, want %#x", c.wide, got, c.f16)
		}
		if got := F32ToBF16(f); got != uint16(c.bf16) {
			t.Errorf("F32ToBF16(%#x) = %#x, want %#x", c.wide, got, c.bf16)
		}
	}
	if got := math.Float32bits(F16ToF32(0xfc01)); got != 0xffc02000 {
		t.Errorf("a signalling half widens to %#x, want 0xffc02000", got)
	}
}
