package cli

import "os"

// SyncDirectory makes a rename in a directory durable (fsync(2)).
func SyncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = d.Close() }()
	return d.Sync()
}
