package writer

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sallyport/sallyport/audit"
)

// companion is an [audit.Companion] in progress. The committer owns it once the event is
// queued; the caller reads err after the committer has answered.
type companion struct {
	statements []encoded
	applied    encoded
	void       func(error) *audit.Event
	size       int
	attempts   int   // writes that included it
	err        error // nil: committed, with an effect
	dropped    bool  // the event is written without it
}

// encoded is a statement as it is sent.
type encoded struct {
	sql     string
	values  [][]byte
	formats []int16
}

// maxCompanionAttempts is how many times an event is written with its companion. A companion
// that ends every connection would otherwise stop the log.
const maxCompanionAttempts = 3

func newCompanion(c audit.Companion) (*companion, error) {
	if len(c.Statements) == 0 || c.Void == nil || c.Applied.SQL == "" {
		return nil, errors.New("companion: Statements, Applied and Void must be set")
	}
	out := &companion{void: c.Void}
	var err error
	for _, s := range append(slices.Clone(c.Statements), c.Applied) {
		var e encoded
		if e, err = encode(s); err != nil {
			return nil, err
		}
		out.statements = append(out.statements, e)
		out.size += e.size()
	}
	last := len(out.statements) - 1
	out.applied, out.statements = out.statements[last], out.statements[:last]
	return out, nil
}

func encode(s audit.SQLStatement) (encoded, error) {
	e := encoded{sql: s.SQL, values: make([][]byte, len(s.Args)), formats: make([]int16, len(s.Args))}
	for i, arg := range s.Args {
		switch v := arg.(type) {
		case nil:
		case string:
			if strings.IndexByte(v, 0) >= 0 {
				return e, fmt.Errorf("parameter %d: text with a zero byte", i+1)
			}
			e.values[i] = []byte(v)
		case []byte:
			e.values[i], e.formats[i] = v, 1
			if v == nil {
				e.values[i] = []byte{}
			}
		case int64:
			e.values[i] = strconv.AppendInt(nil, v, 10)
		case bool:
			e.values[i] = strconv.AppendBool(nil, v)
		case time.Time:
			e.values[i] = v.UTC().AppendFormat(nil, "2006-01-02 15:04:05.999999Z07:00")
		default:
			return e, fmt.Errorf("parameter %d: a value of type %T", i+1, arg)
		}
	}
	return e, nil
}

func (e encoded) size() int {
	n := len(e.sql)
	for _, v := range e.values {
		n += len(v)
	}
	return n
}

// drop excludes the companion: the event is written without it, and its caller receives err.
func (c *companion) drop(err error) {
	c.err, c.dropped, c.statements = err, true, nil
}

// voidEvent is the event which states that the companion had no effect.
func (c *companion) voidEvent() *audit.Event {
	e := c.void(c.err)
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Normalise()
	return e
}

// companionError is the database's error about a companion of a group. Nothing of the group
// is committed. It does not unwrap, so that its code is not mistaken for that of an event.
type companionError struct{ err *pgconn.PgError }

func (e companionError) Error() string {
	return fmt.Sprintf("%v: %s (SQLSTATE %s)", audit.ErrRefused, e.err.Message, e.err.Code)
}

// Is reports whether target is [audit.ErrRefused].
func (e companionError) Is(target error) bool { return target == audit.ErrRefused }

// blocked reports whether the companion waited for too long: for a lock, or for itself.
func (e companionError) blocked() bool { return e.err.Code == "55P03" || e.err.Code == "57014" }

// isRefusal reports whether an error is about the statement, and not about the server. The
// listed classes end a connection or concern every statement (PostgreSQL documentation,
// appendix A); 57014 is the statement_timeout of [boundCompanions].
func isRefusal(err *pgconn.PgError) bool {
	if len(err.Code) != 5 || err.SeverityUnlocalized != "ERROR" && err.SeverityUnlocalized != "" {
		return false
	}
	return err.Code == "57014" || !slices.Contains([]string{"08", "25", "53", "57", "58", "F0", "XX"}, err.Code[:2])
}
