-- +goose Up

-- Questions about a period. The planner knows both its ends, reads the partitions of
-- the period alone, and joins decisions with ends by hash: the views, which know no
-- period, look each end up. A function that is one SELECT is inlined. A body in
-- BEGIN ATOMIC is parsed here: no search_path changes what it means.

-- An end follows its decision within audit.MaxOpen (package audit), eight days.
-- +goose StatementBegin
CREATE FUNCTION audit.all_decisions_between(since timestamptz, until timestamptz) RETURNS SETOF audit.all_decisions
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT d.time, d.decision_id,
           d.verdict, d.reason, d.rule, d.mode, d.would_deny,
           d.workspace, d.repository, d.project, d.deployment, d.deployment_type, d.branch,
           d.action, d.scheme, d.host, d.port, d.method, d.path, d.target_raw,
           d.status, d.message, CASE WHEN d.rule IS NOT NULL THEN coalesce(d.rules, ARRAY[d.rule]) END, d.revision, d.commit, d.repository_revision,
           d.upstream_proxy, coalesce(c.dialed_address, d.dialed_address), CASE WHEN d.dialed_address IS NOT NULL THEN coalesce(d.addresses, ARRAY[d.dialed_address]) END,
           c.time, c.close_reason, c.bytes_sent, c.bytes_received, c.duration, c.upstream_status,
           d.workspace_uuid, d.repository_uuid, d.deployment_uuid, d.pipeline_uuid, d.step_uuid,
           d.issuer, d.credential_kind, d.client_address, d.listener,
           d.writer, d.writer_sequence,
           (SELECT p.build_number FROM identity.pipelines p WHERE p.pipeline_uuid = d.pipeline_uuid AND p.repository_uuid = d.repository_uuid),
           (SELECT p.creator FROM identity.pipelines p WHERE p.pipeline_uuid = d.pipeline_uuid AND p.repository_uuid = d.repository_uuid)
    FROM audit.events d
    LEFT JOIN (
        SELECT DISTINCT ON (e.decision_id) e.decision_id, e.time, e.close_reason, e.bytes_sent, e.bytes_received, e.duration, e.upstream_status, e.dialed_address
        FROM audit.events e
        WHERE e.kind IN ('tunnel_closed', 'request_closed')
          AND e.time > all_decisions_between.since - interval '1 day' AND e.time < all_decisions_between.until + interval '8 days'
    ) c ON c.decision_id = d.decision_id
    WHERE d.kind = 'decision' AND d.time >= all_decisions_between.since AND d.time < all_decisions_between.until;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.all_decisions_between(timestamptz, timestamptz) IS 'The rows of audit.all_decisions from a time on and before another. Where a question names columns of the end, it is faster than the view.';

-- +goose StatementBegin
CREATE FUNCTION audit.decisions_between(since timestamptz, until timestamptz) RETURNS SETOF audit.decisions
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT * FROM audit.all_decisions_between(decisions_between.since, decisions_between.until) d WHERE d.credential_kind IS DISTINCT FROM 'self_test';
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.decisions_between(timestamptz, timestamptz) IS 'The rows of audit.decisions from a time on and before another. Where a question names columns of the end, it is faster than the view.';

-- +goose StatementBegin
CREATE FUNCTION audit.deployment_egress_between(since timestamptz, until timestamptz) RETURNS SETOF audit.deployment_egress
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT d.workspace_uuid, d.repository_uuid, d.deployment_uuid,
           max(d.workspace), max(d.repository), max(d.deployment), max(d.deployment_type),
           d.scheme, d.host, d.port, min(d.time), max(d.time),
           count(*) FILTER (WHERE d.verdict = 'allow' AND NOT d.would_deny),
           count(*) FILTER (WHERE d.would_deny),
           count(*) FILTER (WHERE d.verdict = 'deny'),
           coalesce(sum(d.bytes_sent), 0)::bigint, coalesce(sum(d.bytes_received), 0)::bigint,
           array_agg(DISTINCT d.rule) FILTER (WHERE d.rule IS NOT NULL)
    FROM audit.decisions_between(deployment_egress_between.since, deployment_egress_between.until) d
    WHERE d.deployment_uuid IS NOT NULL
    GROUP BY d.workspace_uuid, d.repository_uuid, d.deployment_uuid, d.scheme, d.host, d.port;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.deployment_egress_between(timestamptz, timestamptz) IS 'The rows of audit.deployment_egress, of the decisions from a time on and before another.';

-- Whether a destination was reached earlier takes one lookup for each earlier month,
-- however many decisions that month has. LIMIT keeps the planner from reading them all.
-- +goose StatementBegin
CREATE FUNCTION audit.new_destinations(since timestamptz, until timestamptz)
    RETURNS TABLE (repository_uuid uuid, repository text, host text, port integer, first_seen timestamptz, rule text, decisions bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT n.repository_uuid, n.repository, n.host, n.port, n.first_seen, n.rule, n.decisions
    FROM (SELECT d.repository_uuid, min(d.repository) AS repository, d.host, d.port, min(d.time) AS first_seen, min(d.rule) AS rule, count(*) AS decisions
          FROM audit.events d
          WHERE d.kind = 'decision' AND d.verdict = 'allow' AND d.credential_kind IS DISTINCT FROM 'self_test'
            AND d.time >= new_destinations.since AND d.time < new_destinations.until
          GROUP BY d.repository_uuid, d.host, d.port) n
    LEFT JOIN LATERAL (
        SELECT true AS seen FROM audit.events b
        WHERE b.kind = 'decision' AND b.verdict = 'allow' AND b.credential_kind IS DISTINCT FROM 'self_test'
          AND b.repository_uuid = n.repository_uuid AND b.host = n.host AND b.port = n.port AND b.time < new_destinations.since
        LIMIT 1) b ON true
    WHERE b.seen IS NULL;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.new_destinations(timestamptz, timestamptz) IS 'The destinations that clients of a repository reached from a time on and before another, and never earlier.';

-- Each rule is found behind the one before in an index that has each rule once a
-- month in effect, so that the time does not grow with the number of decisions.
-- +goose StatementBegin
CREATE FUNCTION audit.stale_rules(until timestamptz, unused_for interval)
    RETURNS TABLE (rule text, last_used timestamptz, uses bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE r AS (
        (SELECT e.rule FROM audit.events e
         WHERE e.kind = 'decision' AND e.verdict = 'allow' AND e.credential_kind IS DISTINCT FROM 'self_test' AND e.rule IS NOT NULL
         ORDER BY e.rule LIMIT 1)
        UNION ALL
        SELECT (SELECT e.rule FROM audit.events e
                WHERE e.kind = 'decision' AND e.verdict = 'allow' AND e.credential_kind IS DISTINCT FROM 'self_test' AND e.rule > r.rule
                ORDER BY e.rule LIMIT 1)
        FROM r WHERE r.rule IS NOT NULL
    )
    SELECT r.rule, u.last_used, u.uses
    FROM r
    LEFT JOIN LATERAL (
        SELECT true AS used FROM audit.events e
        WHERE e.kind = 'decision' AND e.verdict = 'allow' AND e.credential_kind IS DISTINCT FROM 'self_test' AND e.rule = r.rule
          AND e.time >= stale_rules.until - stale_rules.unused_for AND e.time < stale_rules.until
        LIMIT 1) n ON true
    CROSS JOIN LATERAL (
        SELECT max(e.time) AS last_used, count(*) AS uses FROM audit.events e
        WHERE n.used IS NULL AND e.kind = 'decision' AND e.verdict = 'allow' AND e.credential_kind IS DISTINCT FROM 'self_test' AND e.rule = r.rule
          AND e.time < stale_rules.until - stale_rules.unused_for) u
    WHERE r.rule IS NOT NULL AND n.used IS NULL AND u.uses > 0;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.stale_rules(timestamptz, interval) IS 'The rules that once let a client out, and did not for so long before a time. Uses are those earlier.';

-- A number is compared with its neighbor of the same writer, as in audit.gaps. Two
-- neighbors may lie in two months, so that what looks absent is looked up in all.
-- +goose StatementBegin
CREATE FUNCTION audit.absent_between(since timestamptz, until timestamptz)
    RETURNS TABLE (writer text, first_sequence bigint, last_sequence bigint, missing bigint, sealed bigint, explained_by text)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE w AS (
        (SELECT e.writer FROM audit.events e WHERE e.time >= absent_between.since AND e.time < absent_between.until ORDER BY e.writer LIMIT 1)
        UNION ALL
        SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer AND e.time >= absent_between.since AND e.time < absent_between.until ORDER BY e.writer LIMIT 1)
        FROM w WHERE w.writer IS NOT NULL
    ), h AS MATERIALIZED (
        SELECT w.writer, v.number,
               coalesce(v.previous, (SELECT max(p.writer_sequence) FROM audit.events p WHERE p.writer = w.writer AND p.writer_sequence < v.number), 0) AS previous
        FROM w CROSS JOIN LATERAL (
            SELECT e.writer_sequence AS number, lag(e.writer_sequence) OVER (ORDER BY e.writer_sequence) AS previous
            FROM audit.events e WHERE e.writer = w.writer AND e.time >= absent_between.since AND e.time < absent_between.until) v
        WHERE v.previous IS NULL OR v.number > v.previous + 1
    ), x AS MATERIALIZED ( -- as in audit.gaps
        SELECT r.about, array_agg(r.e ORDER BY r.place) AS list
        FROM (SELECT e, e.about, row_number() OVER (PARTITION BY e.about ORDER BY e.kind DESC, e.time) AS place
              FROM audit.explanations e WHERE e.explains AND e.first_sequence <= e.last_sequence) r
        WHERE r.place <= 1000
        GROUP BY r.about
    )
    SELECT h.writer, r.first, r.last, r.last - r.first + 1 - l.sealed, l.sealed,
           (SELECT e.kind
            FROM unnest(x.list) WITH ORDINALITY AS e (time, kind, about, first_sequence, last_sequence, reason, writer, writer_sequence, explains, place)
            WHERE e.first_sequence <= r.first AND e.last_sequence >= r.last ORDER BY e.place LIMIT 1)
    FROM h
    LEFT JOIN x ON x.about = h.writer
    CROSS JOIN LATERAL (
        SELECT lag(s.number, 1, h.previous) OVER (ORDER BY s.number) + 1 AS first, s.number - 1 AS last
        FROM (SELECT e.writer_sequence AS number FROM audit.events e
              WHERE e.writer = h.writer AND e.writer_sequence > h.previous AND e.writer_sequence < h.number
              UNION ALL SELECT h.number) s) r
    CROSS JOIN LATERAL (SELECT count(*) AS sealed FROM audit.leaves l WHERE l.writer = h.writer AND l.writer_sequence BETWEEN r.first AND r.last) l
    WHERE h.number > h.previous + 1 AND r.last >= r.first
    UNION ALL
    SELECT e.about, greatest(e.first_sequence, k.number + 1), e.last_sequence, e.last_sequence - greatest(e.first_sequence, k.number + 1) + 1, 0, CASE WHEN e.explains THEN e.kind END
    FROM audit.explanations e
    CROSS JOIN LATERAL (SELECT greatest((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = e.about),
        (SELECT max(v.writer_sequence) FROM audit.events v WHERE v.writer = e.about), 0) AS number) k
    WHERE e.kind = 'events_lost' AND e.time >= absent_between.since AND e.time < absent_between.until AND e.last_sequence > k.number;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.absent_between(timestamptz, timestamptz) IS 'Runs of numbers without an event in the log, each before an event from a time on and before another, and those that an event of that time reports as lost behind a writer''s last. missing: how many have no leaf either. sealed: how many have a leaf, so that retention removed them, or another party.';

-- +goose StatementBegin
CREATE FUNCTION audit.sealed_between(since timestamptz, until timestamptz)
    RETURNS TABLE (writer text, events bigint, sealed bigint)
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH RECURSIVE w AS (
        (SELECT e.writer FROM audit.events e WHERE e.time >= sealed_between.since AND e.time < sealed_between.until ORDER BY e.writer LIMIT 1)
        UNION ALL
        SELECT (SELECT e.writer FROM audit.events e WHERE e.writer > w.writer AND e.time >= sealed_between.since AND e.time < sealed_between.until ORDER BY e.writer LIMIT 1)
        FROM w WHERE w.writer IS NOT NULL
    ), r AS MATERIALIZED (
        SELECT w.writer, min(e.writer_sequence) AS first, max(e.writer_sequence) AS last
        FROM w CROSS JOIN LATERAL (SELECT e.writer_sequence FROM audit.events e WHERE e.writer = w.writer AND e.time >= sealed_between.since AND e.time < sealed_between.until) e
        GROUP BY w.writer
    )
    SELECT r.writer, s.events, s.sealed
    FROM r CROSS JOIN LATERAL (
        SELECT count(*) AS events, count(l.writer_sequence) AS sealed
        FROM (SELECT e.writer_sequence FROM audit.events e WHERE e.writer = r.writer AND e.time >= sealed_between.since AND e.time < sealed_between.until) e
        LEFT JOIN (SELECT l.writer_sequence FROM audit.leaves l WHERE l.writer = r.writer AND l.writer_sequence BETWEEN r.first AND r.last) l
          ON l.writer_sequence = e.writer_sequence) s;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.sealed_between(timestamptz, timestamptz) IS 'For each writer how many events it has from a time on and before another, and how many of them have a leaf.';

REVOKE ALL ON FUNCTION audit.all_decisions_between(timestamptz, timestamptz), audit.decisions_between(timestamptz, timestamptz), audit.deployment_egress_between(timestamptz, timestamptz),
    audit.new_destinations(timestamptz, timestamptz), audit.stale_rules(timestamptz, interval), audit.absent_between(timestamptz, timestamptz), audit.sealed_between(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.all_decisions_between(timestamptz, timestamptz), audit.decisions_between(timestamptz, timestamptz), audit.deployment_egress_between(timestamptz, timestamptz),
    audit.new_destinations(timestamptz, timestamptz), audit.stale_rules(timestamptz, interval), audit.absent_between(timestamptz, timestamptz), audit.sealed_between(timestamptz, timestamptz)
    TO sallyport_writer, sallyport_auditor;

-- +goose Down
DROP FUNCTION audit.sealed_between(timestamptz, timestamptz);
DROP FUNCTION audit.absent_between(timestamptz, timestamptz);
DROP FUNCTION audit.stale_rules(timestamptz, interval);
DROP FUNCTION audit.new_destinations(timestamptz, timestamptz);
DROP FUNCTION audit.deployment_egress_between(timestamptz, timestamptz);
DROP FUNCTION audit.decisions_between(timestamptz, timestamptz);
DROP FUNCTION audit.all_decisions_between(timestamptz, timestamptz);
