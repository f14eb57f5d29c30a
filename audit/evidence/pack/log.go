package pack

import (
	"context"
	"errors"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
)

// A Log is the log as it is at one moment: what is recorded or sealed while a
// pack is made does not show. It is used by one goroutine. What callbacks are
// given holds until they return; an error of theirs ends the reading and comes
// back.
type Log interface {
	// Database returns the identity of the database, the login, and its clock.
	Database(ctx context.Context) (Database, error)
	// Cover returns what of a period is sealed.
	Cover(ctx context.Context, from, to time.Time) (Cover, error)
	// Unsealed gives the numbers above the last sealed one of every writer, as runs, by
	// writer and number. Events of the period are counted.
	Unsealed(ctx context.Context, from, to time.Time) ([]UnsealedRun, error)
	// Next gives the least number of each of these writers above the one beside it,
	// whether it is sealed or not. Writers without one are left out.
	Next(ctx context.Context, writers []string, numbers []int64) ([]NextNumber, error)
	// Checkpoint gives the first checkpoint of at least this size that a key of the log
	// signed (where keys are trusted from outside, one of those), as a signed note;
	// where none did, the first; nil where there is none.
	Checkpoint(ctx context.Context, size int64) ([]byte, error)
	// CheckpointAfter gives the first checkpoint that such a key signed at this time or
	// later; nil where there is none.
	CheckpointAfter(ctx context.Context, t time.Time) ([]byte, error)
	// CheckpointSizes gives the sizes of the last checkpoint of each hour from one
	// time on, and of each day before it (both in UTC, by the times of signing), of the
	// hours and days that ended before another time.
	CheckpointSizes(ctx context.Context, before, hourlyFrom time.Time) ([]int64, error)
	// Consistency proves that the tree of a larger size extends that of a smaller one.
	// It returns [ErrNoTree] if the log is smaller.
	Consistency(ctx context.Context, from, to int64) (*audit.Consistency, error)
	// Count counts the sealed decisions of a selection by their columns.
	Count(ctx context.Context, s Selection) (int64, error)
	// Walk gives the leaves below a size and the checkpoints up to it, in the order
	// of the tree. progress, which may be nil, hears how many are behind.
	Walk(ctx context.Context, size int64, sink Sink, progress func(leaves int64)) error
	// RetentionAfter gives the size of the first checkpoint that covers all retention
	// events whose leaf is at this index or later; 0 where there are none.
	RetentionAfter(ctx context.Context, leaf int64) (int64, error)
	// Findings gives the rows that a reconciliation added to the tables of deployments,
	// as lines of JSON: those that audit.reconciliation_digest makes, in its order.
	Findings(ctx context.Context, reconciliation string) ([]string, error)
	// Policy gives the content of a policy by its digest; nil where the log does not
	// have it.
	Policy(ctx context.Context, digest string) ([]byte, error)
	// Access returns the present privileges in the database. The period selects the
	// partitions.
	Access(ctx context.Context, from, to time.Time) ([]Table, error)
	// Queries are the statements behind the methods, in plain SQL.
	Queries() []Query
}

// Sink takes a log in the order of its tree; see audit.Verification.
type Sink interface {
	Sealed(*audit.Entry)
	Checkpoint(audit.Statement)
}

// Database names a database.
type Database struct {
	System string    `json:"system_identifier"` // of the cluster, as initdb made it
	Name   string    `json:"name"`
	User   string    `json:"user"` // who made the pack
	Schema int64     `json:"schema_version"`
	Now    time.Time `json:"-"` // the database's clock
}

// Cover is what of a period is sealed.
type Cover struct {
	Events   int64 // in the period
	Unsealed int64 // of these, without a leaf
	Last     int64 // the highest leaf of the others; -1: none
}

// Query is a statement that a pack was made with.
type Query struct {
	Name       string   `json:"name"`
	SQL        string   `json:"sql"`
	Parameters []string `json:"parameters,omitempty"` // what $1, $2, … stand for
	Rows       int64    `json:"rows"`
}

// Exceptions lists the exceptions in the documents of a policy.
type Exceptions func(ctx context.Context, s *policy.Snapshot) ([]Exception, error)

// Exception is one exception of one revision.
type Exception struct {
	Revision   string   `json:"revision"`
	Path       string   `json:"path"`
	Hosts      []string `json:"hosts,omitempty"`
	Owner      string   `json:"owner"`
	Ticket     string   `json:"ticket,omitempty"`
	Repository string   `json:"repository,omitempty"`
	Until      string   `json:"until,omitempty"` // empty: not written as the library wants it, so that it never counts
	Unreadable string   `json:"unreadable,omitempty"`
}

// UnsealedRun are consecutive numbers of a writer without a leaf.
type UnsealedRun struct {
	Writer      string
	Sealed      int64     // the writer's last number with a leaf; 0: none
	SealedAt    time.Time // the time of that event; zero: retention took it, or there is none
	First, Last int64
	At, Until   time.Time // of the events First and Last
	Twice       int64     // the first of these numbers that more than one event has; 0: none
	InPeriod    int64     // events of the period among them
}

// Waits reports whether the next checkpoint covers the run: it follows on what is
// sealed. Every other run is behind a gap, or behind a number that two events have,
// of which neither is ever sealed.
func (r *UnsealedRun) Waits() bool { return r.First == r.Sealed+1 && r.Twice != r.First }

// NextNumber is the number that a writer has after another one, sealed or not.
type NextNumber struct {
	Writer string
	Number int64
	At     time.Time // zero: retention took the event
}

// Names of queries of which a pack counts the rows.
const (
	QueryDecisions = "decisions of the period"
	QueryLeaves    = "leaves"
)

// ErrNoTree is returned, wrapped, where a log does not reach a size.
var ErrNoTree = errors.New("the log has fewer leaves")
