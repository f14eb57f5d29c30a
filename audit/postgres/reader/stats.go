package reader

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/internal/database"
)

// Totals are counts of the log for a period, all of one moment. What had more than
// one name in the period bears the last in the order of bytes.
type Totals struct {
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	Events   int64     `json:"events"`
	Decided  Counts    `json:"decisions"`
	SelfTest Counts    `json:"self_test"` // probes of our own, which are in no other tally
	// Repeated is how many refusals have no event of their own, because they repeat a
	// recorded one: Decided.Denied does not include them.
	Repeated     int64         `json:"repeated_refusals"`
	Kinds        []KindCount   `json:"kinds"`
	Reasons      []ReasonCount `json:"reasons"`
	Days         []Day         `json:"days"`
	Repositories []Origin      `json:"repositories"`
	Destinations []Destination `json:"destinations"`
	// Hosts is how many destinations there are, of which Destinations are the most
	// asked for.
	Hosts int64 `json:"destinations_total"`
	// WouldClose counts the tunnels that only report mode let continue, and Continued lists
	// where they went: at most top of the ContinuedTotal targets by repository and reason.
	WouldClose     int64       `json:"would_close"`
	Continued      []Continued `json:"would_close_targets"`
	ContinuedTotal int64       `json:"would_close_targets_total"`

	Writers []Writer `json:"writers"`
	Sealing Sealing  `json:"sealing"`
	Tables  []Table  `json:"tables"`
}

// Counts is how decisions came out, and how much went where they allowed it.
type Counts struct {
	Allowed       int64 `json:"allowed"`    // without those of report mode
	WouldDeny     int64 `json:"would_deny"` // passed only because of report mode
	Denied        int64 `json:"denied"`
	BytesSent     int64 `json:"bytes_sent"`
	BytesReceived int64 `json:"bytes_received"`
}

// Decisions is how many there are.
func (t Counts) Decisions() int64 { return t.Allowed + t.WouldDeny + t.Denied }

// KindCount is how many events of a kind there are.
type KindCount struct {
	Kind   string `json:"kind"`
	Events int64  `json:"events"`
}

// ReasonCount is how many decisions came out so.
type ReasonCount struct {
	Verdict   string `json:"verdict"`
	Reason    string `json:"reason"`
	WouldDeny bool   `json:"would_deny"`
	Decisions int64  `json:"decisions"`
}

// Day is a day in UTC.
type Day struct {
	Day    string `json:"day"` // 2026-11-21
	Events int64  `json:"events"`
	Counts
}

// Origin is a repository and the deployment environment that its steps deploy to.
type Origin struct {
	RepositoryUUID string `json:"repository_uuid"`
	Repository     string `json:"repository"`
	DeploymentUUID string `json:"deployment_uuid"`
	Deployment     string `json:"deployment"`
	Counts
}

// Destination is where steps went or tried to go.
type Destination struct {
	Host string `json:"host"`
	Port int64  `json:"port"`
	Counts
}

// Continued is how many tunnels of a repository to a target only report mode let continue,
// by the close reason of enforce mode.
type Continued struct {
	RepositoryUUID string `json:"repository_uuid"`
	Repository     string `json:"repository"`
	Host           string `json:"host"`
	Port           int64  `json:"port"`
	CloseReason    string `json:"close_reason"`
	Tunnels        int64  `json:"tunnels"`
}

// Writer is a process that wrote in the period. Events and Missing are of the period:
// how many events it has there, and how many numbers before one of them have neither
// an event nor a leaf. LastEvent and LastSequence are of all that it wrote.
type Writer struct {
	Writer       string     `json:"writer"`
	StartedAt    *time.Time `json:"started_at"`
	EndedAt      *time.Time `json:"ended_at"`
	LastEvent    time.Time  `json:"last_event"`
	Events       int64      `json:"events"`
	LastSequence int64      `json:"last_sequence"`
	Missing      int64      `json:"missing"`
}

// Sealing is how much of the whole log is sealed.
type Sealing struct {
	Sealed     int64      `json:"sealed"`
	Unsealed   int64      `json:"unsealed"`
	Checkpoint *time.Time `json:"checkpoint"` // of the latest; nil: there is none
}

// Table is a table of the log on the disk, with its indexes.
type Table struct {
	Name  string `json:"name"`
	Bytes int64  `json:"bytes"`
}

// Totals counts what happened from since on and before until. Of the destinations
// it lists at most top of them.
func (a *Querier) Totals(ctx context.Context, since, until time.Time, top int) (*Totals, error) {
	tx, err := a.begin(ctx)
	if err != nil {
		return nil, a.explain(ctx, err)
	}
	defer a.end(tx)
	s := &Totals{Since: since.UTC(), Until: until.UTC()}
	if err := s.read(ctx, a, tx); err != nil {
		return nil, a.explain(ctx, err)
	}
	s.sort(top)
	return s, nil
}

// read fills in the totals. A second connection, of the same moment, counts the ends
// meanwhile: each of the two takes half of the time. Without one they come last.
func (s *Totals) read(ctx context.Context, a *Querier, tx pgx.Tx) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		ends []ended
		err  error
	}
	m, counted := newSums(), make(chan result, 1)
	conn, second := a.second(ctx, tx)
	if second != nil {
		go func() {
			ends, err := readEnds(ctx, second, s.Since, s.Until)
			closeConn(conn)
			counted <- result{ends, err}
		}()
	}
	err := s.count(ctx, tx, m)
	for _, read := range []func(context.Context, pgx.Tx) error{s.continued, s.writers, s.sealing, s.tables} {
		if err == nil {
			err = read(ctx, tx)
		}
	}
	if err != nil {
		cancel()
	}
	var r result
	if second != nil {
		r = <-counted
	} else if err == nil {
		r.ends, r.err = readEnds(ctx, tx, s.Since, s.Until)
	}
	if err = cmp.Or(err, r.err); err != nil {
		return err
	}
	s.ended(m, r.ends)
	s.list(m)
	return nil
}

// second is a transaction on a connection of its own that sees what tx sees; nil:
// there is none to be had, and one is enough.
func (a *Querier) second(ctx context.Context, tx pgx.Tx) (*pgx.Conn, pgx.Tx) {
	var snapshot string
	if a.alone || tx.QueryRow(ctx, `SELECT pg_export_snapshot()`).Scan(&snapshot) != nil {
		return nil, nil
	}
	conn, err := database.Connect(ctx, a.connect)
	if err != nil {
		return nil, nil
	}
	second, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		_, err = second.Exec(ctx, `SET TRANSACTION SNAPSHOT '`+snapshot+`'; SET LOCAL jit = off; SET LOCAL max_parallel_workers_per_gather = 0`)
	}
	if err != nil {
		closeConn(conn)
		return nil, nil
	}
	return conn, second
}

// sealing counts by the writers' numbers, not by their events.
func (s *Totals) sealing(ctx context.Context, tx pgx.Tx) error {
	// Few events of a writer are not sealed, which the planner does not know either.
	if _, err := tx.Exec(ctx, "SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off"); err != nil {
		return err
	}
	return tx.QueryRow(ctx, `SELECT (SELECT coalesce(max(index), -1) + 1 FROM audit.leaves),
		(WITH RECURSIVE w AS (
			(SELECT writer FROM audit.events ORDER BY writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT coalesce(sum((SELECT count(*) FROM audit.events e WHERE e.writer = w.writer
			AND e.writer_sequence > coalesce((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = w.writer), 0))), 0)::bigint
		FROM w WHERE w.writer IS NOT NULL),
		(SELECT time FROM audit.checkpoints ORDER BY number DESC LIMIT 1)`).Scan(&s.Sealing.Sealed, &s.Sealing.Unsealed, &s.Sealing.Checkpoint)
}

func (s *Totals) tables(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT c.relname::text, pg_total_relation_size(c.oid) FROM pg_class c
		WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind = 'r' ORDER BY c.relname`)
	if err != nil {
		return err
	}
	s.Tables, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Table])
	return err
}

// sort puts what there is most of first, days and writers in the order of time.
func (s *Totals) sort(top int) {
	slices.SortFunc(s.Kinds, func(a, b KindCount) int { return cmp.Or(cmp.Compare(b.Events, a.Events), cmp.Compare(a.Kind, b.Kind)) })
	slices.SortFunc(s.Reasons, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Decisions, a.Decisions), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Verdict, b.Verdict))
	})
	slices.SortFunc(s.Days, func(a, b Day) int { return cmp.Compare(a.Day, b.Day) })
	slices.SortFunc(s.Repositories, func(a, b Origin) int {
		return cmp.Or(cmp.Compare(b.Decisions(), a.Decisions()), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.RepositoryUUID, b.RepositoryUUID), cmp.Compare(a.DeploymentUUID, b.DeploymentUUID))
	})
	slices.SortFunc(s.Destinations, func(a, b Destination) int {
		return cmp.Or(cmp.Compare(b.Decisions(), a.Decisions()), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port))
	})
	slices.SortFunc(s.Writers, func(a, b Writer) int {
		return cmp.Or(a.LastEvent.Compare(b.LastEvent), cmp.Compare(a.Writer, b.Writer))
	})
	slices.SortFunc(s.Continued, func(a, b Continued) int {
		return cmp.Or(cmp.Compare(b.Tunnels, a.Tunnels), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.RepositoryUUID, b.RepositoryUUID), cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.CloseReason, b.CloseReason))
	})
	s.ContinuedTotal = int64(len(s.Continued))
	s.Continued = s.Continued[:min(len(s.Continued), top)]
	s.Hosts = int64(len(s.Destinations))
	s.Destinations = s.Destinations[:min(len(s.Destinations), top)]
}
