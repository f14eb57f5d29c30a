package audit

import "errors"

// Companion is a change of the log's database that is committed in the transaction of one
// event: both are durable, or neither is. It must be of small bounded cost: while it runs, no
// other event is recorded.
type Companion struct {
	// Statements run in this order, behind the event's row. The companion has no effect if
	// the first of them affects and returns no row; the others must then change nothing
	// either.
	Statements []SQLStatement
	// Applied returns a row if and only if the statements are committed and had an effect.
	// The log runs it, over the same login, after the answer to a commit was lost.
	Applied SQLStatement
	// Void returns the event that follows in the log if the event was recorded and the
	// companion had no effect. The error wraps [ErrNoEffect] or [ErrRefused]; with any other
	// error the log was unavailable, and the outcome was not known when the event was made.
	Void func(error) *Event
}

// SQLStatement is one SQL statement with the values of its parameters: string, []byte,
// int64, bool, time.Time, or nil for NULL.
type SQLStatement struct {
	SQL  string
	Args []any
}

var (
	// ErrNoEffect is returned, wrapped, if an event is durable and the first statement of its
	// companion found nothing to change.
	ErrNoEffect = errors.New("the change had no effect")
	// ErrRefused is returned, wrapped, if an event is durable and the database refused its
	// companion. Nothing of the companion is committed.
	ErrRefused = errors.New("the database refused the change")
)
