package hub

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// variant is the files that make one model of a repository.
type variant struct {
	quant string   // "" if the name does not say
	files []string // the first is the one to open, of a GGUF model
}

// Safetensors is the quantization of a model that is a folder.
const Safetensors = "safetensors"

// usual are the quantizations taken where none is named, the first best.
var usual = []string{"Q4_K_M", "Q8_0"}

var (
	quantInName = regexp.MustCompile(`(?i)(?:^|[-._/])((?:IQ[1-4]_(?:XXS|XS|S|M|NL|XL)|TQ[12]_0|MXFP4|Q[2-8]_(?:K_(?:XXS|XS|S|M|L|XL)|K|0|1)(?:_[048]_[048](?:_[048])?)?)|BF16|F16|FP16|F32|FP32)(?:$|[-._/])`)
	splitName   = regexp.MustCompile(`^(.*)-(\d{5})-of-(\d{5})$`)
	shardName   = regexp.MustCompile(`^model-\d{5}-of-\d{5}\.safetensors$`)
)

// besideWeights are the files that a folder's model may need.
var besideWeights = []string{
	"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json",
	"special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json",
}

// variants groups the files of a repository into models. Parts of a split file
// belong together, and so does everything of a folder.
func variants(files []string) []variant {
	files = slices.Sorted(slices.Values(files))
	var list []variant
	splits := map[string]int{}
	for _, f := range files {
		stem, ok := strings.CutSuffix(f, ".gguf")
		if !ok || isSidecar(path.Base(stem)) {
			continue
		}
		if m := splitName.FindStringSubmatch(stem); m != nil {
			key := m[1] + "/" + m[3]
			if at, ok := splits[key]; ok {
				list[at].files = append(list[at].files, f)
				continue
			}
			splits[key] = len(list)
			stem = m[1]
		}
		list = append(list, variant{quantOf(stem), []string{f}})
	}
	list = slices.DeleteFunc(list, incomplete)
	if folder := folderFiles(files); folder != nil {
		list = append(list, variant{Safetensors, folder})
	}
	return list
}

// isSidecar reports a GGUF file that is not a language model by itself.
func isSidecar(name string) bool {
	name = strings.ToLower(name)
	return strings.HasPrefix(name, "mmproj") || strings.HasPrefix(name, "mtp-") || strings.Contains(name, "imatrix")
}

// quantOf is the last quantization that a path without its extension speaks of.
func quantOf(stem string) string {
	quant := ""
	for at := 0; at < len(stem); {
		m := quantInName.FindStringSubmatchIndex(stem[at:])
		if m == nil {
			break
		}
		quant = strings.ToUpper(stem[at+m[2] : at+m[3]])
		at += m[3] // the separator may begin the next
	}
	return quant
}

// incomplete reports a split file that lacks parts.
func incomplete(v variant) bool {
	m := splitName.FindStringSubmatch(strings.TrimSuffix(v.files[0], ".gguf"))
	return m != nil && (m[2] != "00001" || fmt.Sprintf("%05d", len(v.files)) != m[3])
}

// folderFiles returns the files of a safetensors model, or nil.
func folderFiles(files []string) []string {
	has := func(f string) bool { return slices.Contains(files, f) }
	if !has("config.json") {
		return nil
	}
	var list []string
	switch {
	case has("model.safetensors.index.json"):
		list = append(list, "model.safetensors.index.json")
		for _, f := range files {
			if shardName.MatchString(f) {
				list = append(list, f)
			}
		}
	case has("model.safetensors"):
		list = append(list, "model.safetensors")
	default:
		return nil
	}
	for _, f := range besideWeights {
		if has(f) {
			list = append(list, f)
		}
	}
	return list
}

// choose returns the model that n means among files. Errors wrap ErrNotFound
// and say what there is.
func choose(n Name, files []string) (variant, error) {
	all := variants(files)
	var fits []variant
	for _, v := range all {
		if n.File != "" && slices.Contains(v.files, n.File) || n.File == "" && n.Quant != "" && strings.EqualFold(v.quant, n.Quant) {
			fits = append(fits, v)
		}
	}
	if n.File == "" && n.Quant == "" {
		fits = preferred(all)
	}
	switch {
	case len(fits) == 1:
		return fits[0], nil
	case len(all) == 0:
		return variant{}, fmt.Errorf("%s: %w: neither a GGUF file nor a folder of safetensors", n, ErrNotFound)
	case len(fits) > 1:
		return variant{}, fmt.Errorf("%s: several files fit, name one: %s", n, names(n, fits, true))
	}
	what := "this is not there"
	if n.File == "" && n.Quant == "" {
		what = "there are several, name one"
	}
	return variant{}, fmt.Errorf("%s: %w: %s: %s", n, ErrNotFound, what, names(n, all, false))
}

// preferred is the one model to take where nothing is said, or none.
func preferred(all []variant) []variant {
	if len(all) == 1 {
		return all
	}
	for _, quant := range append(slices.Clone(usual), Safetensors) {
		i := slices.IndexFunc(all, func(v variant) bool { return v.quant == quant })
		if i >= 0 {
			return all[i : i+1]
		}
	}
	return nil
}

// names lists variants by what to call them.
func names(n Name, list []variant, files bool) string {
	var out []string
	for _, v := range list {
		name := Name{Repo: n.Repo, Quant: v.quant}
		if files || v.quant == "" {
			name = Name{Repo: n.Repo, File: v.files[0]}
		}
		out = append(out, name.String())
	}
	return strings.Join(out, ", ")
}
