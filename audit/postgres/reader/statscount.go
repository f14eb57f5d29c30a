package reader

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// What Totals counts with, each in one reading of an index that holds the period in
// the order of time. Equal events are counted by the database and added up here:
// one statement that groups by all of it sorts the whole period.
const (
	// The index is read once for both lists: outcomes by day, and by where decisions came
	// from and went to. The time zone of the session is UTC.
	decidedSQL = `SELECT d.by_target, d.verdict, coalesce(d.reason, ''), coalesce(d.would_deny, false), d.probe, coalesce(to_char(d.day, 'YYYY-MM-DD'), ''),
			coalesce(d.repository_uuid::text, ''), coalesce(d.deployment_uuid::text, ''), coalesce(d.repository, ''), coalesce(d.deployment, ''), coalesce(d.host, ''), coalesce(d.port, 0)::bigint, d.events
		FROM (SELECT verdict, reason, would_deny, coalesce(credential_kind = 'self_test', false) AS probe, time::date AS day,
				repository_uuid, deployment_uuid, host, port, max(repository) AS repository, max(deployment) AS deployment, grouping(host) = 0 AS by_target, count(*) AS events
			FROM audit.events WHERE kind = 'decision' AND time >= $1 AND time < $2
			GROUP BY GROUPING SETS ((1, 2, 3, 4, 5), (1, 3, 4, 6, 7, 8, 9))) d`
	// An end counts in the period in which it happened, and where its decision is.
	endsSQL = `SELECT c.kind, c.probe, to_char(c.day, 'YYYY-MM-DD'), coalesce(c.repository_uuid::text, ''), coalesce(c.deployment_uuid::text, ''),
			coalesce(c.repository, ''), coalesce(c.deployment, ''), coalesce(c.host, ''), coalesce(c.port, 0)::bigint, c.events, coalesce(c.sent, 0), coalesce(c.received, 0)
		FROM (SELECT e.kind, coalesce(d.credential_kind, '') = 'self_test' AS probe, e.time::date AS day, d.repository_uuid, d.deployment_uuid,
				max(d.repository) AS repository, max(d.deployment) AS deployment, d.host, d.port,
				count(*) AS events, sum(e.bytes_sent)::bigint AS sent, sum(e.bytes_received)::bigint AS received
			FROM audit.events e
			LEFT JOIN audit.events d ON d.decision_id = e.decision_id AND d.kind = 'decision'
				AND d.time >= $1::timestamptz - interval '8 days' AND d.time < $2::timestamptz + interval '1 day'
			WHERE e.kind IN ('tunnel_closed', 'request_closed') AND e.time >= $1 AND e.time < $2
			GROUP BY 1, 2, 3, 4, 5, 8, 9) c`
	continuedSQL = `SELECT coalesce(repository_uuid::text, ''), coalesce(max(repository), ''), coalesce(host, ''), coalesce(port, 0)::bigint, coalesce(close_reason, ''), count(*)
		FROM audit.events WHERE kind = 'would_close' AND time >= $1 AND time < $2 AND credential_kind IS DISTINCT FROM 'self_test'
		GROUP BY repository_uuid, host, port, close_reason`
	repeatedSQL = `SELECT coalesce(sum(count), 0)::bigint FROM audit.repeated_refusals_between($1, $2)`
	othersSQL   = `SELECT o.kind, to_char(o.day, 'YYYY-MM-DD'), o.events
		FROM (SELECT kind, time::date AS day, count(*) AS events
			FROM audit.events WHERE kind NOT IN ('decision', 'tunnel_closed', 'request_closed') AND time >= $1 AND time < $2 GROUP BY 1, 2) o`
)

func newSums() *sums {
	return &sums{kinds: map[string]int64{}, reasons: map[ReasonCount]int64{}, days: map[string]*Day{}, origins: map[[2]string]*Origin{}, hosts: map[Destination]*Counts{}}
}

// sums are totals while they are made.
type sums struct {
	kinds   map[string]int64
	reasons map[ReasonCount]int64
	days    map[string]*Day
	origins map[[2]string]*Origin
	hosts   map[Destination]*Counts
}

func (s *sums) day(day string) *Day {
	d := s.days[day]
	if d == nil {
		d = &Day{Day: day}
		s.days[day] = d
	}
	return d
}

// at returns the tallies of where a decision came from and went to.
func (s *sums) at(o Origin, to Destination) (origin, host *Counts) {
	key := [2]string{o.RepositoryUUID, o.DeploymentUUID}
	seen := s.origins[key]
	if seen == nil {
		seen = &o
		s.origins[key] = seen
	}
	seen.Repository, seen.Deployment = max(seen.Repository, o.Repository), max(seen.Deployment, o.Deployment)
	if s.hosts[to] == nil {
		s.hosts[to] = new(Counts)
	}
	return &seen.Counts, s.hosts[to]
}

// decided counts decisions that came out so.
func (t *Counts) decided(verdict string, passed bool, n int64) {
	switch {
	case verdict == "deny":
		t.Denied += n
	case passed:
		t.WouldDeny += n
	default:
		t.Allowed += n
	}
}

func (t *Counts) moved(sent, received int64) {
	t.BytesSent, t.BytesReceived = t.BytesSent+sent, t.BytesReceived+received
}

// What is joined and grouped fits memory: on a disk it takes many times as long.
// Few groups come of many rows, which the planner does not know: it would sort.
const countSettings = "SET LOCAL work_mem = '128MB'; SET LOCAL enable_sort = off"

// ended is how many ends of one kind and day there are, of decisions from one place to
// another.
type ended struct {
	kind, day      string
	probe          bool
	origin         Origin
	to             Destination
	events         int64
	sent, received int64
}

// readEnds counts the ends of a period.
func readEnds(ctx context.Context, tx pgx.Tx, since, until time.Time) ([]ended, error) {
	if _, err := tx.Exec(ctx, countSettings); err != nil {
		return nil, err
	}
	rows, err := tx.Query(ctx, endsSQL, since, until)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (ended, error) {
		var e ended
		err := row.Scan(&e.kind, &e.probe, &e.day, &e.origin.RepositoryUUID, &e.origin.DeploymentUUID, &e.origin.Repository, &e.origin.Deployment,
			&e.to.Host, &e.to.Port, &e.events, &e.sent, &e.received)
		return e, err
	})
}

// happened counts events of a kind on a day.
func (s *Totals) happened(m *sums, kind, day string, n int64) {
	s.Events += n
	m.kinds[kind] += n
	m.day(day).Events += n
}

// count adds the decisions and the other events.
func (s *Totals) count(ctx context.Context, tx pgx.Tx, m *sums) error {
	if _, err := tx.Exec(ctx, countSettings); err != nil {
		return err
	}
	var verdict, reason, kind, day string
	var passed, probe bool
	var n int64
	var origin Origin
	var to Destination
	each := func(sql string, into []any, add func()) error {
		rows, err := tx.Query(ctx, sql, s.Since, s.Until)
		if err != nil {
			return err
		}
		_, err = pgx.ForEachRow(rows, into, func() error { add(); return nil })
		return err
	}
	var byTarget bool
	if err := each(decidedSQL, []any{&byTarget, &verdict, &reason, &passed, &probe, &day,
		&origin.RepositoryUUID, &origin.DeploymentUUID, &origin.Repository, &origin.Deployment, &to.Host, &to.Port, &n}, func() {
		switch {
		case byTarget && probe:
		case byTarget:
			from, at := m.at(origin, to)
			from.decided(verdict, passed, n)
			at.decided(verdict, passed, n)
		default:
			s.happened(m, "decision", day, n)
			if probe {
				s.SelfTest.decided(verdict, passed, n)
				return
			}
			s.Decided.decided(verdict, passed, n)
			m.day(day).decided(verdict, passed, n)
			m.reasons[ReasonCount{Verdict: verdict, Reason: reason, WouldDeny: passed}] += n
		}
	}); err != nil {
		return err
	}
	if err := tx.QueryRow(ctx, repeatedSQL, s.Since, s.Until).Scan(&s.Repeated); err != nil {
		return err
	}
	return each(othersSQL, []any{&kind, &day, &n}, func() { s.happened(m, kind, day, n) })
}

// continued counts the tunnels that only report mode let continue.
func (s *Totals) continued(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, continuedSQL, s.Since, s.Until)
	if err != nil {
		return err
	}
	s.Continued, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Continued])
	for _, c := range s.Continued {
		s.WouldClose += c.Tunnels
	}
	return err
}

// ended adds what the ends report.
func (s *Totals) ended(m *sums, ends []ended) {
	for _, e := range ends {
		s.happened(m, e.kind, e.day, e.events)
		if e.probe {
			s.SelfTest.moved(e.sent, e.received)
			continue
		}
		from, at := m.at(e.origin, e.to)
		for _, t := range []*Counts{&s.Decided, &m.day(e.day).Counts, from, at} {
			t.moved(e.sent, e.received)
		}
	}
}

// list makes lists of what was added up.
func (s *Totals) list(m *sums) {
	for kind, n := range m.kinds {
		s.Kinds = append(s.Kinds, KindCount{kind, n})
	}
	for reason, n := range m.reasons {
		reason.Decisions = n
		s.Reasons = append(s.Reasons, reason)
	}
	for _, day := range m.days {
		s.Days = append(s.Days, *day)
	}
	for _, origin := range m.origins {
		if origin.RepositoryUUID != "" && origin.Counts != (Counts{}) {
			s.Repositories = append(s.Repositories, *origin)
		}
	}
	for to, tally := range m.hosts {
		if to.Host != "" && *tally != (Counts{}) {
			to.Counts = *tally
			s.Destinations = append(s.Destinations, to)
		}
	}
}

// writersSQL reads of each writer of the period the numbers that it has there. Where
// two neighbors do not follow one another, absentSQL finds out what is missing.
const (
	writersSQL = `WITH RECURSIVE w AS (
			(SELECT e.writer FROM audit.events e WHERE e.time >= $1 AND e.time < $2 ORDER BY e.writer LIMIT 1)
			UNION ALL
			SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer AND e.time >= $1 AND e.time < $2 ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
		)
		SELECT w.writer,
			(SELECT min(e.time) FROM audit.events e WHERE e.kind = 'writer_started' AND e.writer = w.writer),
			(SELECT max(e.time) FROM audit.events e WHERE e.kind = 'writer_ended' AND e.writer = w.writer),
			l.time, p.events, l.writer_sequence,
			p.first > 1 AND NOT EXISTS (SELECT FROM audit.events e WHERE e.writer = w.writer AND e.writer_sequence = p.first - 1) OR p.jumps > 0
		FROM w
		CROSS JOIN LATERAL (SELECT e.time, e.writer_sequence FROM audit.events e WHERE e.writer = w.writer ORDER BY e.writer_sequence DESC LIMIT 1) l
		CROSS JOIN LATERAL (SELECT count(*) AS events, min(v.number) AS first, count(*) FILTER (WHERE v.number > v.previous + 1) AS jumps
			FROM (SELECT e.writer_sequence AS number, lag(e.writer_sequence) OVER (ORDER BY e.writer_sequence) AS previous
				FROM audit.events e WHERE e.writer = w.writer AND e.time >= $1 AND e.time < $2) v) p
		WHERE w.writer IS NOT NULL`
	absentSQL = `SELECT writer, sum(missing)::bigint FROM audit.absent_between($1, $2) GROUP BY writer`
)

func (s *Totals) writers(ctx context.Context, tx pgx.Tx) error {
	if _, err := tx.Exec(ctx, "SET LOCAL enable_sort = on"); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, writersSQL, s.Since, s.Until)
	if err != nil {
		return err
	}
	var w Writer
	var jumps, gap bool
	if _, err = pgx.ForEachRow(rows, []any{&w.Writer, &w.StartedAt, &w.EndedAt, &w.LastEvent, &w.Events, &w.LastSequence, &jumps}, func() error {
		gap = gap || jumps
		s.Writers = append(s.Writers, w)
		w = Writer{}
		return nil
	}); err != nil || !gap {
		return err
	}
	if rows, err = tx.Query(ctx, absentSQL, s.Since, s.Until); err != nil {
		return err
	}
	missing := map[string]int64{}
	var n int64
	if _, err = pgx.ForEachRow(rows, []any{&w.Writer, &n}, func() error { missing[w.Writer] = n; return nil }); err != nil {
		return err
	}
	for i := range s.Writers {
		s.Writers[i].Missing = missing[s.Writers[i].Writer]
	}
	return nil
}
