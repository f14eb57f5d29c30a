package verifycmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
)

// trustFlags name the keys and checkpoints that a verifier has from outside the log.
type trustFlags struct {
	keys, checkpoints *[]string
	unanchored        *bool
}

func addTrustFlags(c *cobra.Command, keyUsage string) trustFlags {
	return trustFlags{
		checkpoints: c.Flags().StringArray("checkpoint", nil, "`FILE` of checkpoints from outside the database; may be given again"),
		keys:        c.Flags().StringArray("key", nil, keyUsage),
		unanchored:  c.Flags().Bool("unanchored", false, "accept a result that nothing from outside vouches for, without --key and --checkpoint"),
	}
}

// givenTrust is what a command line gives, or what was found where it gives nothing.
type givenTrust struct {
	trust       audit.Trust
	checkpoints bool // the command line names files of checkpoints: one of them has to hold
	unanchored  bool
	found       []string // files of checkpoints that the command line does not name
	warnings    []string
	now         time.Time // when the database was read; zero: an export was
}

func (f trustFlags) read(ctx context.Context) (*givenTrust, error) {
	if *f.unanchored && len(*f.keys)+len(*f.checkpoints) > 0 {
		return nil, errors.New("--unanchored cannot be combined with --key or --checkpoint: leave it out")
	}
	trust, warnings, err := readTrust(ctx, *f.keys, *f.checkpoints)
	return &givenTrust{trust: trust, checkpoints: len(*f.checkpoints) > 0, unanchored: *f.unanchored, warnings: warnings}, err
}

func readTrust(ctx context.Context, keys, checkpoints []string) (trust audit.Trust, warnings []string, err error) {
	for _, given := range keys {
		list, err := readKeys(ctx, given)
		if err != nil {
			return trust, nil, fmt.Errorf("--key %w", err)
		}
		trust.Keys = append(trust.Keys, list...)
	}
	for _, path := range checkpoints {
		text, err := cli.ReadInput(ctx, path, cli.MaxProofInput)
		if err != nil {
			return trust, nil, fmt.Errorf("--checkpoint %w", err)
		}
		more, err := trust.AddCheckpoints(path, text)
		if err != nil {
			return trust, nil, fmt.Errorf("--checkpoint %w", err)
		}
		warnings = append(warnings, more...)
	}
	return trust, warnings, nil
}

// readKeys takes a key, or a file of keys.
func readKeys(ctx context.Context, given string) ([]audit.Key, error) {
	if audit.Key(given).Check() == nil {
		return []audit.Key{audit.Key(given)}, nil
	}
	text, err := cli.ReadInput(ctx, given, cli.MaxSecretInput)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: it is neither a key nor a file: give ORIGIN+HASH+KEY or the name of a file: %w", given, fs.ErrNotExist)
	}
	if err != nil {
		return nil, err
	}
	var list []audit.Key
	for _, line := range strings.Fields(string(text)) {
		if err := audit.Key(line).Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", given, err)
		}
		list = append(list, audit.Key(line))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the file has no key in it: want ORIGIN+HASH+KEY on one line", given)
	}
	return list, nil
}

// addPublished adds the checkpoints that this instance published to files, where
// the command line names none. With an embedded database, data_directory is the
// place of the database itself, and its file vouches for nothing.
func (g *givenTrust) addPublished(configuration string) error {
	if g.unanchored || g.checkpoints {
		return nil
	}
	cfg, _, err := cli.LoadConfig(configuration)
	if err != nil {
		return err
	}
	paths := cfg.Audit.Checkpoints.Files
	if !cfg.Audit.Embedded {
		paths = append([]string{filepath.Join(cfg.DataDirectory, components.CheckpointsFile)}, paths...)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read published checkpoints: %w", err)
		}
		more, err := g.trust.AddCheckpoints(path, text)
		if err != nil {
			g.warnings = append(g.warnings, err.Error())
			continue
		}
		g.warnings = append(g.warnings, more...)
		g.found = append(g.found, path)
	}
	return nil
}

const unanchoredResult = "CONSISTENT, NOT ANCHORED: no contradiction was found, but nothing from outside confirms that this is what was recorded"
