package sealer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
)

// thinPage is how many checkpoints are examined, and taken away, in one transaction.
const thinPage = 20_000

// ThinCheckpoints removes the checkpoints older than a week that lie between two
// others of the same key and clock hour (UTC), of which the later one covers more, and
// returns how many these were; with dry, would be. So an evidence pack over a period
// that ends with a clock hour depends on the same checkpoint before and after: the last
// one of that hour that was signed for new events, or the first of the next.
// ThinCheckpoints checks signatures: a checkpoint that no key of the log signed is
// neither removed nor a reason to remove another one. The database enforces the same
// rule, except for signatures, which it cannot check. Every page is an event of
// kind checkpoints_thinned. Errors leave pages that are done.
func (r *Retention) ThinCheckpoints(ctx context.Context, dry bool) (thinned int64, err error) {
	keys, err := r.namedKeys(ctx)
	if err != nil {
		return 0, r.explain("read the signing keys", err)
	}
	t := thinner{keys: keys, latest: make(map[audit.Key]thinCandidate)}
	for more := true; more; {
		if more, err = r.readThinnable(ctx, &t); err != nil {
			return thinned, r.explain("read checkpoints", err)
		}
		removed := int64(len(t.due))
		if !dry && removed > 0 {
			if err := r.conn.QueryRow(ctx, `SELECT audit.thin_checkpoints($1)`, t.due).Scan(&removed); err != nil {
				return thinned, r.explain("thin out checkpoints", err)
			}
		}
		thinned += removed
		t.due = t.due[:0]
	}
	return thinned, nil
}

// thinner decides which checkpoints may go, in their order.
type thinner struct {
	keys   map[string][]audit.Key      // by how they begin
	after  int64                       // the number of the last one that was read
	latest map[audit.Key]thinCandidate // by key
	due    []int64
}

// thinCandidate is the latest valid checkpoint of a key so far.
type thinCandidate struct {
	number int64
	size   int64
	hour   time.Time
	first  bool // of this key and hour
}

// next takes a checkpoint whose note is as it was signed.
func (t *thinner) next(number int64, note []byte) {
	var keys []audit.Key
	for _, name := range audit.SignerNames(note) {
		keys = append(keys, t.keys[name]...)
	}
	c, key, err := audit.OpenCheckpoint(note, keys...)
	if err != nil {
		return
	}
	hour := c.Time.UTC().Truncate(time.Hour)
	before, known := t.latest[key]
	same := known && before.hour.Equal(hour)
	if same && !before.first && before.size < c.Size {
		t.due = append(t.due, before.number)
	}
	t.latest[key] = thinCandidate{number: number, size: c.Size, hour: hour, first: !same}
}

// readThinnable reads one page. It is true where there may be more.
func (r *Retention) readThinnable(ctx context.Context, t *thinner) (more bool, err error) {
	rows, err := r.conn.Query(ctx, `SELECT number, note FROM audit.checkpoints
		WHERE number > $1 AND time < date_trunc('hour', clock_timestamp() - interval '7 days', 'UTC') ORDER BY number LIMIT $2`, t.after, thinPage)
	if err != nil {
		return false, err
	}
	var note string
	read := 0
	_, err = pgx.ForEachRow(rows, []any{&t.after, &note}, func() error {
		read++
		t.next(t.after, []byte(note))
		return nil
	})
	return read == thinPage, err
}

// namedKeys are the keys that the log names. That a key is named gives it nothing:
// checkpoints of one key are compared with each other alone.
func (r *Retention) namedKeys(ctx context.Context) (map[string][]audit.Key, error) {
	rows, err := r.conn.Query(ctx, `SELECT record FROM audit.events WHERE kind = $1 AND octet_length(record) <= $2`, audit.KindSigningKey, maxRegistration)
	if err != nil {
		return nil, err
	}
	keys := make(map[string][]audit.Key)
	// A text that is not a key must not share the name of a key that is one.
	add := func(k audit.Key) {
		if name := k.SignerName(); k.Check() == nil && !slices.Contains(keys[name], k) {
			keys[name] = append(keys[name], k)
		}
	}
	var record []byte
	_, err = pgx.ForEachRow(rows, []any{&record}, func() error {
		if named, ok := audit.RegistrationOf(record); ok {
			add(named.Key)
			add(named.Previous)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("signing keys: %w", err)
	}
	return keys, nil
}
