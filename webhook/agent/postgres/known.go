package postgres

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/webhook/agent"
)

const (
	// readInterval is the least time between two reads of the ids that exist: an unknown id
	// costs one query per interval, whatever number of requests has one.
	readInterval = time.Second
	readTimeout  = 5 * time.Second
	// useInterval is the precision of the stored time of a credential's last use.
	useInterval = time.Minute
	// maxKnown bounds the ids in memory. With more credentials, each unknown id costs a query.
	maxKnown = 100_000
)

// known has the ids of the valid credentials. It is safe for concurrent use.
type known struct {
	pool *pgxpool.Pool

	mu      sync.Mutex
	ids     map[string]bool // nil: not read yet, or too many
	read    time.Time
	reading chan struct{} // closed after the read in progress; nil: there is none
	err     error         // of the last read
	used    map[string]time.Time
}

// check returns nil for the id of a credential that may be valid. The error wraps
// [agent.ErrCredential] if a read of all ids, which began at most readInterval ago, did not
// find the id. A credential that was created since that read is not found either.
func (k *known) check(ctx context.Context, id string) error {
	for {
		k.mu.Lock()
		switch {
		case k.ids[id]:
			k.mu.Unlock()
			return nil
		case k.reading == nil && !k.read.IsZero() && time.Since(k.read) < readInterval:
			defer k.mu.Unlock()
			if k.err != nil {
				return k.err
			}
			if k.ids == nil {
				return nil
			}
			return fmt.Errorf("agent credential %s: %w", id, agent.ErrCredential)
		case k.reading == nil:
			k.reading, k.read = make(chan struct{}), time.Now()
			go k.refresh(k.reading)
		}
		reading := k.reading
		k.mu.Unlock()
		select {
		case <-reading:
		case <-ctx.Done():
			return fmt.Errorf("agent credential %s: %w", id, ctx.Err())
		}
	}
}

// refresh reads the ids. It does not depend on the request that caused it.
func (k *known) refresh(done chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
	defer cancel()
	ids, err := k.list(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	if err == nil {
		k.ids = ids
	}
	k.err, k.reading = err, nil
	if time.Since(k.read) > readInterval/2 { // the read was slow: those who waited use its result
		k.read = time.Now().Add(-readInterval / 2)
	}
	close(done)
}

func (k *known) list(ctx context.Context) (map[string]bool, error) {
	rows, err := k.pool.Query(ctx, `SELECT id FROM webhook.agent_credentials WHERE revoked_at IS NULL LIMIT $1`, maxKnown+1)
	if err != nil {
		return nil, fmt.Errorf("read the ids of agent credentials: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the ids of agent credentials: %w", err)
	}
	if len(list) > maxKnown {
		return nil, nil
	}
	ids := make(map[string]bool, len(list))
	for _, id := range list {
		ids[id] = true
	}
	return ids, nil
}

// forget removes an id that was revoked.
func (k *known) forget(id string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.ids, id)
	delete(k.used, id)
}

// isDue reports whether the use of a credential is to be stored, and notes that it is.
func (k *known) isDue(id string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if at, ok := k.used[id]; ok && time.Since(at) < useInterval {
		return false
	}
	if k.used == nil || len(k.used) > maxKnown {
		k.used = map[string]time.Time{}
	}
	k.used[id] = time.Now()
	return true
}
