package pgembed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/sallyport/sallyport/internal/durable"
)

// initialise makes the cluster, if there is none. It is made beside its place
// and renamed, so that one that was interrupted is never taken for a cluster.
func (s *Server) initialise(ctx context.Context) error {
	cluster, fresh := s.path("data"), s.path("data.new")
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("pgembed: removing a half-made cluster: %w", err)
	}
	if _, err := os.Lstat(cluster); err == nil {
		return checkVersion(cluster, s.binaries)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pgembed: %w", err)
	}
	if err := s.as.own(fresh); err != nil {
		return err
	}
	inherited, err := s.inherit(fresh)
	if err != nil {
		return err
	}
	defer inherited.close()
	arguments := []string{
		"--pgdata", inherited.paths[0], "--username", Superuser,
		"--auth-local", "trust", "--auth-host", "reject",
		"--encoding", "UTF8", "--locale", "C", "--data-checksums", "--no-instructions",
	}
	if s.config.NoSync {
		arguments = append(arguments, "--no-sync")
	}
	s.config.Logger.Info("initialising a PostgreSQL cluster", "directory", cluster, "version", s.binaries.Version, "user", s.as.name)
	process, err := s.spawn("initdb", arguments, inherited, syscall.SIGKILL)
	if err != nil {
		return err
	}
	select {
	case <-process.done:
	case <-ctx.Done():
		_ = process.signal(syscall.SIGKILL)
		<-process.done
		return fmt.Errorf("pgembed: initialising %s: %w", cluster, context.Cause(ctx))
	}
	if process.err != nil {
		tail := process.log.tail()
		return fmt.Errorf("pgembed: initialising %s as user %q: initdb: %w%s%s", cluster, s.as.name, process.err, tail, diskHint(tail))
	}
	if err := os.Rename(fresh, cluster); err != nil {
		return fmt.Errorf("pgembed: putting the new cluster in place: %w", err)
	}
	if s.config.NoSync {
		return nil
	}
	if err := durable.SyncDirectory(s.directory); err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	return nil
}

// diskHint is what to do where PostgreSQL could not write for want of room.
func diskHint(text string) string {
	for _, full := range []string{"No space left on device", "File too large", "Disk quota exceeded", "Check free disk space"} {
		if strings.Contains(text, full) {
			return "\nthe disk is full: make room for 200 MiB at least, or choose another data_directory"
		}
	}
	return ""
}

// checkVersion compares a cluster with the programs. A major version never
// reads another's files.
func checkVersion(cluster string, binaries Binaries) error {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("pgembed: %s is there, but holds no PostgreSQL cluster; move it away or choose another data_directory", cluster)
	}
	if err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	has, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return fmt.Errorf("pgembed: %s/PG_VERSION holds %q, which is not a version; is this a cluster?", cluster, text)
	}
	if has != binaries.Major {
		return fmt.Errorf("pgembed: %s was made by PostgreSQL %d, and %s is PostgreSQL %d; "+
			"install PostgreSQL %d, or name its bin directory in $%s, or move the log to the new version with pg_upgrade or pg_dump, "+
			"or choose another data_directory to begin a new log",
			cluster, has, binaries.Directory, binaries.Major, has, BinariesVariable)
	}
	return nil
}
