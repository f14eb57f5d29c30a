package pgembed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config configures a server.
type Config struct {
	// Directory holds the cluster and what belongs to it; it is made (0700) if
	// it is not there. Its parent may be shared, the directory itself is ours.
	Directory string

	// Binaries is the directory of the PostgreSQL programs; empty means that
	// they are looked for (see Find).
	Binaries string

	// Settings are additional server settings, as in postgresql.conf. They win
	// over ours.
	Settings map[string]string

	// NoSync gives up durability for speed: what was committed may be lost and
	// the cluster broken when the machine stops. For tests.
	NoSync bool

	// StartTimeout bounds Start beside its context: the end of a previous
	// server, initdb, crash recovery. Zero means two minutes.
	StartTimeout time.Duration

	// StopTimeout is how long Close waits for a fast shutdown before it forces
	// one. Zero means 30 seconds.
	StopTimeout time.Duration

	// Logger gets the output of PostgreSQL, mostly at debug level. Nil discards it.
	Logger *slog.Logger
}

// Server is a running PostgreSQL. Its methods are safe for use by several
// goroutines.
type Server struct {
	Endpoint

	config     Config
	directory  string
	as         account
	binaries   Binaries
	ownerLock  *os.File
	serverLock *os.File
	postmaster *process

	closing  sync.Once
	closed   chan struct{} // closed when Close was called
	closeErr error
	done     chan struct{}
	err      error // why it ended; written before done is closed
}

// Start runs the server of a directory, and makes its cluster first if there
// is none. It returns when the server accepts connections. ctx bounds the
// start only; Close ends the server.
//
// An error wraps ErrInUse where another process runs a server in the
// directory. Whatever the error, no server is left running.
func Start(ctx context.Context, config Config) (*Server, error) {
	if config.StartTimeout == 0 {
		config.StartTimeout = 2 * time.Minute
	}
	if config.StopTimeout == 0 {
		config.StopTimeout = 30 * time.Second
	}
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithTimeout(ctx, config.StartTimeout)
	defer cancel()

	directory, err := filepath.Abs(config.Directory)
	if err != nil || config.Directory == "" {
		return nil, errors.Join(fmt.Errorf("pgembed: %q is not a directory to run a PostgreSQL in", config.Directory), err)
	}
	s := &Server{config: config, directory: directory, closed: make(chan struct{}), done: make(chan struct{})}
	if err := s.start(ctx); err != nil {
		s.release()
		return nil, err
	}
	return s, nil
}

func (s *Server) start(ctx context.Context) (err error) {
	if err = os.MkdirAll(s.directory, 0o700); err != nil {
		return fmt.Errorf("pgembed: %w", err)
	}
	if s.ownerLock, err = takeOwner(s.directory); err != nil {
		return err
	}
	if s.as, err = accountFor(s.directory); err != nil {
		return err
	}
	if s.binaries, err = find(ctx, s.config.Binaries, s.as); err != nil {
		return err
	}
	if s.serverLock, err = takeServer(ctx, s.directory); err != nil {
		return err
	}
	if err = s.initialise(ctx); err != nil {
		return err
	}
	if err = clearPostmaster(s.path("data")); err != nil {
		return err
	}
	if err = clearSocket(s.directory); err != nil {
		return err
	}
	if s.Endpoint, err = makeSocket(s.directory, s.as); err != nil {
		return err
	}
	return s.launch(ctx)
}

// launch starts the postmaster and waits until it answers.
func (s *Server) launch(ctx context.Context) error {
	inherited, err := s.inherit(s.path("data"), s.SocketDirectory())
	if err != nil {
		return err
	}
	defer inherited.close()
	arguments := []string{"-D", inherited.paths[0]}
	settings := s.settings(inherited.paths[1])
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		arguments = append(arguments, "-c", name+"="+settings[name])
	}
	if s.postmaster, err = s.spawn("postgres", arguments, inherited, syscall.SIGINT); err != nil {
		return err
	}
	s.postmaster.log.setQuiet(true)
	if err := s.awaitReady(ctx); err != nil {
		s.stop()
		return err
	}
	s.postmaster.log.setQuiet(false)
	go s.watch()
	return nil
}

// settings are given on the command line, where they win over the cluster's
// own files: a changed postgresql.conf cannot open a port, nor make a commit
// that was acknowledged less than durable.
func (s *Server) settings(socketDirectory string) map[string]string {
	durable := "on"
	if s.config.NoSync {
		durable = "off"
	}
	settings := map[string]string{
		"listen_addresses":        "",
		"port":                    "5432",
		"unix_socket_directories": socketDirectory,
		"unix_socket_permissions": "0700",
		"fsync":                   durable,
		"full_page_writes":        durable,
		"synchronous_commit":      durable,
		"logging_collector":       "off",
		"log_destination":         "stderr",
		"log_line_prefix":         "",
		// A failed statement's text can hold what a client sent.
		"log_min_error_statement": "panic",
	}
	maps.Copy(settings, s.config.Settings)
	return settings
}

func (s *Server) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := ping(ctx, s.URL("postgres", Superuser))
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.postmaster.done:
			return fmt.Errorf("pgembed: PostgreSQL %s ended while starting in %s: %w%s", s.binaries.Version, s.directory,
				ended(s.postmaster.err), s.postmaster.log.tail())
		case <-ctx.Done():
			return fmt.Errorf("pgembed: PostgreSQL %s in %s is not ready: %w (last: %w)%s", s.binaries.Version, s.directory,
				context.Cause(ctx), err, s.postmaster.log.tail())
		}
	}
}

// ping makes one connection.
func ping(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	return conn.Ping(ctx)
}

// watch turns the postmaster's end into ours.
func (s *Server) watch() {
	<-s.postmaster.done
	select {
	case <-s.closed:
	default:
		s.err = fmt.Errorf("pgembed: PostgreSQL in %s ended unasked: %w%s", s.directory, ended(s.postmaster.err), s.postmaster.log.tail())
	}
	close(s.done)
}

// ended names an end without an error too.
func ended(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// Done is closed when the server is gone, asked or not.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err is nil while the server runs and after Close. If the server ended unexpectedly, it
// is an error with the last lines of its log.
func (s *Server) Err() error {
	select {
	case <-s.done:
		return s.err
	default:
		return nil
	}
}

// PID is the process id of the postmaster.
func (s *Server) PID() int { return s.postmaster.command.Process.Pid }

// Binaries are the programs that the server was started with.
func (s *Server) Binaries() Binaries { return s.binaries }

// User is the name of the operating system's user that the server runs as.
func (s *Server) User() string { return s.as.name }

// Close ends the server: a fast shutdown (open transactions are rolled back,
// everything is written out), after StopTimeout an immediate one, then a kill.
// The error means that it had to be forced; the data is safe in any case, and
// is recovered at the next start. Closing twice returns the first answer.
func (s *Server) Close() error {
	s.closing.Do(func() {
		close(s.closed)
		s.closeErr = s.stop()
		<-s.done
		s.release()
	})
	return s.closeErr
}

func (s *Server) stop() error {
	for _, step := range []struct {
		signal  syscall.Signal
		patient time.Duration
	}{
		{syscall.SIGINT, s.config.StopTimeout},
		{syscall.SIGQUIT, min(5*time.Second, s.config.StopTimeout)},
		{syscall.SIGKILL, 0},
	} {
		if err := s.postmaster.signal(step.signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("pgembed: ending PostgreSQL in %s: %w", s.directory, err)
		}
		if step.signal == syscall.SIGKILL {
			break
		}
		select {
		case <-s.postmaster.done:
			if step.signal != syscall.SIGINT {
				return fmt.Errorf("pgembed: PostgreSQL in %s did not end within %v and was forced to", s.directory, s.config.StopTimeout)
			}
			return nil
		case <-time.After(step.patient):
		}
	}
	<-s.postmaster.done
	return fmt.Errorf("pgembed: PostgreSQL in %s did not end within %v and was killed", s.directory, s.config.StopTimeout)
}

// release gives up what start took, in the opposite order.
func (s *Server) release() {
	if s.serverLock != nil {
		if s.SocketDirectory() != "" {
			_ = clearSocket(s.directory) // the next start tries again
		}
		s.serverLock.Close()
	}
	if s.ownerLock != nil {
		s.ownerLock.Close()
	}
}

func (s *Server) path(name string) string { return filepath.Join(s.directory, name) }
