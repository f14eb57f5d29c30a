package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/migrations"
)

// versionJSON is what `version` prints.
type versionJSON struct {
	Version      string `json:"version"`
	Commit       string `json:"commit"` // empty: unknown
	Modified     bool   `json:"modified"`
	Go           string `json:"go"`
	Platform     string `json:"platform"`
	Schema       int64  `json:"schema"`        // of the audit log, as this program installs it
	OldestSchema int64  `json:"oldest_schema"` // with which this program works
}

func newVersion() *cobra.Command {
	c := &cobra.Command{
		Use:   "version",
		Short: "Print version, commit, Go version and schema version",
		Args:  cli.NoArguments,
	}
	asJSON := cli.AddFormatFlag(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		v, out := programVersion(), c.OutOrStdout()
		if asJSON() {
			return cli.PrintJSON(out, v)
		}
		commit := v.Commit
		switch {
		case commit == "":
			commit = "unknown"
		case v.Modified:
			commit += " (modified)"
		}
		_, err := fmt.Fprintf(out, "sallyport %s\ncommit    %s\ngo        %s %s\nschema    %d (works with %d and later)\n",
			v.Version, commit, v.Go, v.Platform, v.Schema, v.OldestSchema)
		return err
	}
	return c
}

// programVersion is what the linker and the build recorded.
func programVersion() versionJSON {
	v := versionJSON{
		Version: cli.Version(), Commit: commit, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Schema: migrations.Latest(), OldestSchema: migrations.Oldest,
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			switch s.Key {
			case "vcs.revision":
				v.Commit = s.Value
			case "vcs.modified":
				v.Modified = s.Value == "true"
			}
		}
	}
	return v
}
