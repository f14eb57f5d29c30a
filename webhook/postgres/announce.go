package postgres

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/sallyport/sallyport/webhook"
)

// announceTimeout bounds one announcement. Without it, instances find the change by polling.
const announceTimeout = 5 * time.Second

// announceSQL notifies in a transaction of its own, whose commit does not wait for the disk: a
// transaction that notifies holds a lock of the whole server until its commit ends
// (PostgreSQL, src/backend/commands/async.c). In the transaction of a delivery, the slow
// commit of one instance would make another one refuse its delivery.
const announceSQL = `SELECT pg_notify(n.channel, n.payload) FROM set_config('synchronous_commit', 'off', true),
	unnest($1::text[], $2::text[]) AS n(channel, payload)`

// notice is one notification.
type notice struct{ channel, payload string }

// announcer notifies all instances of committed changes. It is safe for concurrent use. A
// notification that fails is dropped: the listeners poll.
type announcer struct {
	db *pgxpool.Pool

	mu      sync.Mutex
	pending map[notice]bool // equal notices are one: at most the configured endpoints, and the kinds of refreshes
	running bool
	closed  bool
	done    sync.WaitGroup
}

// announceRoutes announces what an accepted delivery has added.
func (a *announcer) announceRoutes(decision webhook.Decision) {
	if !isAllowed(decision) {
		return
	}
	var list []notice
	for _, r := range decision.Routes {
		if r.Action == webhook.RefreshPolicy || r.Action == webhook.RefreshNames {
			list = append(list, notice{refreshChannel, strings.TrimPrefix(string(r.Action), "refresh_")})
		} else {
			list = append(list, notice{wakeChannel, r.Endpoint})
		}
	}
	a.announce(list...)
}

// announce returns at once.
func (a *announcer) announce(list ...notice) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed || len(list) == 0 {
		return
	}
	if a.pending == nil {
		a.pending = map[notice]bool{}
	}
	for _, n := range list {
		a.pending[n] = true
	}
	if !a.running {
		a.running = true
		a.done.Go(a.run)
	}
}

// run notifies until nothing is pending.
func (a *announcer) run() {
	for {
		var channels, payloads []string
		a.mu.Lock()
		for n := range a.pending {
			channels, payloads = append(channels, n.channel), append(payloads, n.payload)
		}
		clear(a.pending)
		if a.running = len(channels) > 0; !a.running {
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), announceTimeout)
		_, _ = a.db.Exec(ctx, announceSQL, channels, payloads)
		cancel()
	}
}

// close waits for announcements in progress, and drops later ones.
func (a *announcer) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.done.Wait()
}
