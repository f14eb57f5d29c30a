package pgtest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgembed"
)

// Options configure a server of a test's own. The zero value is durable,
// as in production.
type Options struct {
	NoSync   bool              // no durability, faster
	Settings map[string]string // additional server settings
	Logger   *slog.Logger      // gets the output of PostgreSQL; nil discards it
}

// Server is a PostgreSQL server. Its URLs stay the same over Restart. Its
// methods are safe for use by several goroutines, but those that change whether
// the server runs (Kill, Freeze, Thaw, Restart, Shutdown) one at a time.
type Server struct {
	// Directory is what pgembed calls its directory; a program under test can
	// be given it while the server is shut down.
	Directory string

	config pgembed.Config
	inUse  *os.File

	mu      sync.Mutex
	running *pgembed.Server
	killed  bool // and not restarted since

	roles       sync.Mutex
	templatesMu sync.Mutex
	templates   map[string]template
}

// template is a prepared database, or why there is none.
type template struct {
	name string
	err  error
}

// Start runs a server of the test's own, which is ended at the end of the test
// and its files removed.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	s, err := launch(options, "")
	if err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	s.endWith(t)
	return s
}

// endWith ends the server at the end of the test.
func (s *Server) endWith(t testing.TB) {
	t.Cleanup(func() {
		s.thaw()
		if err := s.close(); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
}

// launch runs a server on a copy of the cluster in a directory; empty: a new cluster.
func launch(options Options, from string) (*Server, error) {
	sweep(memory)
	sweep(os.TempDir())
	parent := parentFor(options.NoSync)
	directory, inUse, err := newDirectory(parent)
	if err != nil && parent == memory { // read-only, or not for us
		directory, inUse, err = newDirectory(os.TempDir())
	}
	if err != nil {
		return nil, err
	}
	s := newServer(directory, inUse, options)
	if from != "" {
		err = copyCluster(from, s.Directory)
	} else {
		// A failure to use the cache costs a second and is not a failure.
		_ = copyTemplate(s.Directory)
	}
	if err == nil {
		err = s.run()
	}
	if err != nil {
		_ = s.remove()
		return nil, err
	}
	return s, nil
}

// newServer is a server that has not started.
func newServer(directory string, inUse *os.File, options Options) *Server {
	s := &Server{Directory: filepath.Join(directory, "postgresql"), inUse: inUse}
	// In files of the cluster's own, shared memory is removed with it, also
	// after a crash.
	settings := map[string]string{"dynamic_shared_memory_type": "mmap"}
	maps.Copy(settings, options.Settings)
	s.config = pgembed.Config{Directory: s.Directory, Settings: settings, NoSync: options.NoSync, Logger: options.Logger}
	return s
}

func (s *Server) run() error {
	running, err := pgembed.Start(context.Background(), s.config)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.killed = running, false
	return nil
}

func (s *Server) current() *pgembed.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.running
}

// URL is a connection string; the user "" is the superuser.
func (s *Server) URL(database, user string) string {
	if user == "" {
		user = Superuser
	}
	return s.current().URL(database, user)
}

// SocketDirectory is where the server's unix socket is, for libpq's PGHOST.
func (s *Server) SocketDirectory() string { return s.current().SocketDirectory() }

// Kill ends every process of the server with SIGKILL, as a crash does: nothing
// is written out and no client is notified. It returns when they have ended.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	running := s.current()
	postmaster := running.PID()
	// A stopped postmaster neither starts a process nor notices that one died.
	_ = syscall.Kill(postmaster, syscall.SIGSTOP)
	for _, pid := range children(postmaster) {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err := syscall.Kill(postmaster, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatalf("pgtest: killing the server: %v", err)
	}
	<-running.Done()
	_ = running.Close() // nothing to end; gives up the directory
	s.mu.Lock()
	s.killed = true
	s.mu.Unlock()
	if err := s.awaitEnd(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Shutdown ends the server in order; Restart brings it back.
func (s *Server) Shutdown(t testing.TB) {
	t.Helper()
	if err := s.current().Close(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Restart starts the server again after Kill or Shutdown; a running one is shut
// down first. The data is what the crash or the shutdown left.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.current().Close(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
	if err := s.run(); err != nil {
		t.Fatalf("pgtest: %v", err)
	}
}

// Freeze stops every process of the server (SIGSTOP): connections stay open and
// nothing answers, as with a database behind a network that drops packets. New
// connections are accepted by the kernel and not served. Linux only.
func (s *Server) Freeze(t testing.TB) {
	t.Helper()
	postmaster := s.current().PID()
	for _, pid := range append([]int{postmaster}, children(postmaster)...) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("pgtest: freezing the server: %v", err)
		}
	}
}

// Stop stops the server's processes whose title has this in it (SIGSTOP); Thaw
// lets them continue.
func (s *Server) Stop(t testing.TB, title string) {
	t.Helper()
	for _, pid := range s.Processes(title) {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil && !errors.Is(err, syscall.ESRCH) {
			t.Fatalf("pgtest: stopping %s: %v", title, err)
		}
	}
}

// Thaw lets a frozen server continue.
func (s *Server) Thaw(testing.TB) { s.thaw() }

func (s *Server) thaw() {
	postmaster := s.current().PID()
	if s.ended() {
		return // its process id may be another's
	}
	for _, pid := range append(children(postmaster), postmaster) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// ended reports whether the server's postmaster has ended.
func (s *Server) ended() bool {
	select {
	case <-s.current().Done():
		return true
	default:
		return false
	}
}

func (s *Server) close() error {
	s.mu.Lock()
	killed := s.killed
	s.mu.Unlock()
	if killed {
		// The kernel keeps a killed server's System V segment until a server of
		// the same cluster has ended in order, and it keeps a limited number.
		if err := s.run(); err != nil {
			return errors.Join(err, s.remove())
		}
	}
	return errors.Join(s.current().Close(), s.remove())
}

// remove deletes the server's files.
func (s *Server) remove() error {
	err := os.RemoveAll(filepath.Dir(s.Directory))
	s.inUse.Close()
	return err
}

// awaitEnd waits until no process of the server holds its lock any more.
func (s *Server) awaitEnd() error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := pgembed.Locate(s.Directory); errors.Is(err, pgembed.ErrNotRunning) {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("processes of the killed server in %s live on", s.Directory)
		}
	}
}
