package writer

import (
	"cmp"
	"errors"
	"log/slog"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// Config has the place of the log and the bounds of waiting for it. A zero field
// is its default.
type Config struct {
	URL     string // the database, as the role sallyport_writer or a member of it
	Version string // the program's version, for the writer's first event
	// Signer, which may be nil, reads the key of the log that this process has; nil: it
	// has none. The first event of a writer shows the key (see audit.Signer.SignWriter).
	Signer func() (*audit.Signer, error)
	Log    *slog.Logger // default: none

	// Deadline bounds the wait of one Record. Default 5 s.
	Deadline time.Duration
	// WriteTimeout is after what time a write's connection is given up, and its
	// outcome found out over a new one. Default 5 s.
	WriteTimeout time.Duration
	// Queue is how many events may wait to be written, and QueueBytes how many bytes
	// of memory they may have. Defaults 8192 and 32 MiB. Of both, each repository
	// has a share.
	Queue      int
	QueueBytes int64

	// Journal is the folder for what happens while the database is unavailable. Empty:
	// it is not recorded until the database recovers, and lost if this process ends before.
	Journal string
	// Acknowledged is the folder where the last acknowledged number is kept for the
	// next process, which compares it. Empty: it is not.
	Acknowledged string
	// JournalBytes and JournalAge bound the journal. Defaults 256 MiB and 24 h.
	JournalBytes int64
	JournalAge   time.Duration
	// Spool lets the journal make an allow durable while the database is unavailable
	// (audit.on_outage: spool). Without it only refusals and ends are recorded.
	Spool bool
}

// ErrUnavailable is returned, wrapped, while the log cannot be written.
var ErrUnavailable = errors.New("the audit log is not available")

// ErrClosed is returned, wrapped, by Record after Close.
var ErrClosed = errors.New("the audit log is closed")

func withDefaults(c Config) Config {
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	c.Deadline = cmp.Or(c.Deadline, 5*time.Second)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 5*time.Second)
	c.Queue = cmp.Or(max(c.Queue, 0), 8192)
	c.QueueBytes = cmp.Or(c.QueueBytes, 32<<20)
	c.JournalBytes = cmp.Or(c.JournalBytes, 256<<20)
	c.JournalAge = cmp.Or(c.JournalAge, 24*time.Hour)
	return c
}
