package engine

import (
	"fmt"
	"maps"
	"math"

	"triforce/weights"
)

// Rope overrides a model's rotary embedding; zero fields leave it as it is.
type Rope struct {
	// Scaling is "none", "linear" or "yarn".
	Scaling string
	// Scale is the factor by which the context is stretched.
	Scale float64
	// Base is the base frequency.
	Base float64
}

// Metadata keys of rotary embedding.
const (
	ropeBase     = "llama.rope.freq_base"
	ropeType     = "llama.rope.scaling.type"
	ropeFactor   = "llama.rope.scaling.factor"
	ropeOriginal = "llama.rope.scaling.original_context_length"
	ropeLinear   = "llama.rope.scale_linear"
	modelContext = "llama.context_length"
)

// Validate reports the first field that is out of range, by its flag. The
// error wraps ErrUsage.
func (r Rope) Validate() error {
	positive := func(x float64) bool { return x > 0 && x <= math.MaxFloat32 }
	switch {
	case r.Scaling != "" && r.Scaling != "none" && r.Scaling != "linear" && r.Scaling != "yarn":
		return fmt.Errorf("%w: --rope-scaling %q: expected none, linear or yarn", ErrUsage, r.Scaling)
	case r.Scale != 0 && !positive(r.Scale):
		return fmt.Errorf("%w: --rope-scale %v: expected a positive number", ErrUsage, r.Scale)
	case r.Base != 0 && !positive(r.Base):
		return fmt.Errorf("%w: --rope-base %v: expected a positive number", ErrUsage, r.Base)
	case r.Scaling == "none" && r.Scale != 0:
		return fmt.Errorf("%w: --rope-scale has no effect with --rope-scaling none", ErrUsage)
	}
	return nil
}

// overridden is a source with other metadata.
type overridden struct {
	weights.Source
	meta weights.Meta
}

func (o *overridden) Meta() weights.Meta { return o.meta }

// override returns src with metadata changed as r says.
func (r Rope) override(src weights.Source) (weights.Source, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	meta := maps.Clone(src.Meta())
	if r.Base != 0 {
		meta[ropeBase] = r.Base
	}
	scaling := r.Scaling
	if scaling == "" && r.Scale != 0 {
		if scaling = meta.String(ropeType, "none"); scaling == "none" {
			scaling = "linear"
		}
	}
	if scaling == "" {
		return &overridden{src, meta}, nil
	}
	meta[ropeType] = scaling
	delete(meta, ropeLinear)
	if r.Scale != 0 {
		original := meta.Int(ropeOriginal, meta.Int(modelContext, 0))
		meta[ropeOriginal] = original
		meta[ropeFactor] = r.Scale
		meta[modelContext] = int64(float64(original) * r.Scale)
	} else if scaling != "none" && meta.Float(ropeFactor, 0) == 0 {
		return nil, fmt.Errorf("%w: --rope-scaling %s needs --rope-scale, as the model has no factor of its own", ErrUsage, scaling)
	}
	return &overridden{src, meta}, nil
}
