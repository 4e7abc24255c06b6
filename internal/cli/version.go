package cli

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"triforce/engine"
)

type versionOptions struct {
	Sys  *System
	JSON bool
}

type versionReport struct {
	Version string   `json:"version"`
	Go      string   `json:"go"`
	OS      string   `json:"os"`
	Arch    string   `json:"arch"`
	Tiers   []string `json:"tiers"`
}

func newVersion(sys *System, run func(context.Context, *versionOptions) error) *cobra.Command {
	o := &versionOptions{Sys: sys}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version and the kernels that this processor can run",
		Args:  atMost(0),
		RunE:  func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.JSON, "json", false, "print JSON")
	return cmd
}

func runVersion(_ context.Context, o *versionOptions) error {
	r := versionReport{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH, Tiers: engine.Tiers()}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		r.Version = info.Main.Version
	}
	if o.JSON {
		return writeJSON(o.Sys.Out, r)
	}
	_, err := fmt.Fprintf(o.Sys.Out, "triforce %s, %s, %s/%s, tiers %s\n", r.Version, r.Go, r.OS, r.Arch, strings.Join(r.Tiers, " "))
	return err
}
