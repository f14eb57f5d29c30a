package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Check finds what would keep [Start] from running a server in a directory, as far as
// that shows without changing anything: the programs, the user that they run as, and
// the version of the cluster, if there is one.
func Check(ctx context.Context, directory string) (Binaries, error) {
	directory, err := filepath.Abs(directory)
	if err != nil {
		return Binaries{}, fmt.Errorf("pgembed: %w", err)
	}
	as, err := accountFor(directory)
	if err != nil {
		return Binaries{}, err
	}
	found, err := find(ctx, "", as)
	if err != nil {
		return Binaries{}, err
	}
	cluster := filepath.Join(directory, "data")
	if _, err := os.Lstat(cluster); errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	return found, checkVersion(cluster, found)
}
