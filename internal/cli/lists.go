package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// counts binds a list of numbers that may be written with a k for 1024.
func counts(list *[]int) pflag.Value { return (*countsValue)(list) }

type countsValue []int

func (v *countsValue) Type() string { return "counts" }

func (v *countsValue) String() string {
	var s []string
	for _, n := range *v {
		if n > 0 && n%1024 == 0 {
			s = append(s, strconv.Itoa(n/1024)+"k")
		} else {
			s = append(s, strconv.Itoa(n))
		}
	}
	return strings.Join(s, ",")
}

func (v *countsValue) Set(text string) error {
	var list []int
	for part := range strings.SplitSeq(text, ",") {
		digits, unit := strings.TrimSuffix(strings.ToLower(strings.TrimSpace(part)), "k"), 1
		if digits != strings.ToLower(strings.TrimSpace(part)) {
			unit = 1024
		}
		n, err := strconv.ParseUint(digits, 10, 28)
		if err != nil {
			return fmt.Errorf("%q: expected numbers of tokens such as 0,2k,8192", part)
		}
		list = append(list, int(n)*unit)
	}
	*v = list
	return nil
}

// again is the command line with the flags that were given.
func again(sys *System, cmd *cobra.Command) string {
	words := []string{cmd.CommandPath()}
	if tier := sys.Getenv("TRIFORCE_TIER"); tier != "" {
		words = slices.Insert(words, 0, "TRIFORCE_TIER="+quoted(tier))
	}
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := f.Value.String()
		if list, ok := f.Value.(pflag.SliceValue); ok {
			items := list.GetSlice()
			for i, item := range items { // of numbers, as short as they are
				if x, err := strconv.ParseFloat(item, 64); err == nil {
					items[i] = strconv.FormatFloat(x, 'f', -1, 64)
				}
			}
			value = strings.Join(items, ",")
		}
		if f.NoOptDefVal != "" && value == f.NoOptDefVal {
			words = append(words, "--"+f.Name)
			return
		}
		words = append(words, "--"+f.Name+"="+quoted(value))
	})
	return strings.Join(words, " ")
}

// quoted is a word that a shell takes as it is.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("-_./,:=+", r)
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}
