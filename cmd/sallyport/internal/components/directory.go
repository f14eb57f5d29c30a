package components

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/config"
)

// checkDataDirectory finds what would keep a server from its data_directory: a path
// that is too long for a socket, or a directory that this user cannot write to.
func checkDataDirectory(cfg *config.Config) error {
	if err := admin.CheckControlPath(cfg.DataDirectory); err != nil {
		return err
	}
	// What does not exist is made below the nearest directory that does.
	for at := cfg.DataDirectory; ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		if errors.Is(err, fs.ErrNotExist) && at != filepath.Dir(at) {
			continue
		}
		if err == nil {
			err = unix.Faccessat(unix.AT_FDCWD, at, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
		}
		if err == nil {
			return nil
		}
		return fmt.Errorf("data_directory %s: %s: %w: choose a directory that the server's user (uid %d) can write to, or give it to that user", cfg.DataDirectory, at, err, os.Geteuid())
	}
}

// checkEmergencyStop returns an error where a server could not find out whether it is
// stopped. A file that is not valid JSON is a stop.
func checkEmergencyStop(directory string) error {
	path := filepath.Join(directory, "emergency-stop.json")
	if _, err := os.ReadFile(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the emergency stop: %w: let the server's user read the file, or remove it to lift the stop", err)
	}
	return nil
}
