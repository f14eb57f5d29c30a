-- +goose Up

-- The deployments that Bitbucket reports, compared with the log.
-- Both tables are only ever added to, and each reconciliation puts a digest of
-- what it added into an event, so that it is under the checkpoints too.
CREATE TABLE audit.reconciliation_scans (
    reconciliation  uuid NOT NULL,
    workspace_uuid  uuid NOT NULL,
    repository_uuid uuid NOT NULL,
    scanned_at       timestamptz NOT NULL,
    complete_until  timestamptz,
    requests        integer NOT NULL,
    runs            integer NOT NULL,
    in_order        boolean NOT NULL,
    whole           boolean NOT NULL,
    repository      text COLLATE "C" NOT NULL,
    outcome         text COLLATE "C" NOT NULL,
    detail          text COLLATE "C" NOT NULL,
    CONSTRAINT reconciliation_scans_pkey PRIMARY KEY (reconciliation, repository_uuid),
    -- Readers cannot represent an infinite time.
    CONSTRAINT reconciliation_scans_times CHECK (scanned_at BETWEEN '1970-01-01Z' AND '9999-12-31Z' AND coalesce(complete_until, scanned_at) BETWEEN '1970-01-01Z' AND '9999-12-31Z'),
    CONSTRAINT reconciliation_scans_counts CHECK (requests >= 0 AND runs >= 0),
    CONSTRAINT reconciliation_scans_outcome CHECK (outcome IN ('complete', 'absent', 'partial', 'forbidden', 'gone', 'not_scanned')),
    CONSTRAINT reconciliation_scans_until CHECK ((complete_until IS NOT NULL) = (outcome IN ('complete', 'absent'))),
    CONSTRAINT reconciliation_scans_length CHECK (octet_length(repository) <= 1000 AND octet_length(detail) <= 1000)
);
CREATE INDEX reconciliation_scans_repository ON audit.reconciliation_scans (repository_uuid, scanned_at);
COMMENT ON TABLE audit.reconciliation_scans IS 'Each reconciliation has one row for each repository that Bitbucket listed for the workspace, scanned or not, and for each that it no longer lists.';
COMMENT ON COLUMN audit.reconciliation_scans.reconciliation IS 'Which reconciliation: a UUIDv7.';
COMMENT ON COLUMN audit.reconciliation_scans.workspace_uuid IS 'The UUID of the workspace.';
COMMENT ON COLUMN audit.reconciliation_scans.repository_uuid IS 'The UUID of the repository.';
COMMENT ON COLUMN audit.reconciliation_scans.scanned_at IS 'When the scan began; for a repository that was not scanned, when that was recorded.';
COMMENT ON COLUMN audit.reconciliation_scans.complete_until IS 'Up to when every deployment of the repository was compared. Null: unknown after this scan.';
COMMENT ON COLUMN audit.reconciliation_scans.requests IS 'How many requests to Bitbucket it took.';
COMMENT ON COLUMN audit.reconciliation_scans.runs IS 'How many runs of deployments Bitbucket reported, including known ones.';
COMMENT ON COLUMN audit.reconciliation_scans.in_order IS 'Whether all runs were reported with the newest start first.';
COMMENT ON COLUMN audit.reconciliation_scans.whole IS 'Whether the list was read to its end.';
COMMENT ON COLUMN audit.reconciliation_scans.repository IS 'The full name of the repository then.';
COMMENT ON COLUMN audit.reconciliation_scans.outcome IS 'complete; absent: Bitbucket has no list of deployments there, as where Pipelines is not enabled; partial: it failed on the way; forbidden: the access token may not read it; gone: the workspace lists it no more; not_scanned: there was no time.';
COMMENT ON COLUMN audit.reconciliation_scans.detail IS 'What went wrong.';

CREATE TABLE audit.deployment_findings (
    deployment_run_uuid uuid NOT NULL,
    repository_uuid     uuid NOT NULL,
    workspace_uuid      uuid NOT NULL,
    reconciliation      uuid NOT NULL,
    deployment_uuid     uuid,
    pipeline_uuid       uuid,
    step_uuid           uuid,
    build_number        bigint,
    found_at            timestamptz NOT NULL,
    created_at          timestamptz,
    started_at          timestamptz,
    completed_at        timestamptz,
    state               text COLLATE "C" NOT NULL,
    class               text COLLATE "C" NOT NULL,
    detail              text COLLATE "C" NOT NULL,
    CONSTRAINT deployment_findings_pkey PRIMARY KEY (repository_uuid, deployment_run_uuid, found_at),
    CONSTRAINT deployment_findings_times CHECK (found_at BETWEEN '1970-01-01Z' AND '9999-12-31Z' AND coalesce(created_at, found_at) BETWEEN '1970-01-01Z' AND '9999-12-31Z'
        AND coalesce(started_at, found_at) BETWEEN '1970-01-01Z' AND '9999-12-31Z' AND coalesce(completed_at, found_at) BETWEEN '1970-01-01Z' AND '9999-12-31Z'),
    CONSTRAINT deployment_findings_build_number CHECK (build_number > 0),
    CONSTRAINT deployment_findings_state CHECK (state IN ('waiting', 'in_progress', 'successful', 'failed', 'stopped', 'unknown')),
    CONSTRAINT deployment_findings_class CHECK (class IN ('observed', 'pipeline_only', 'unobserved', 'unknown', 'not_run', 'pending')),
    CONSTRAINT deployment_findings_length CHECK (octet_length(detail) <= 1000)
);
CREATE INDEX deployment_findings_reconciliation ON audit.deployment_findings (reconciliation);
COMMENT ON TABLE audit.deployment_findings IS 'What was found of each run of a deployment that Bitbucket knows of. A row is added when something changes; the latest counts.';
COMMENT ON COLUMN audit.deployment_findings.deployment_run_uuid IS 'The UUID of what Bitbucket calls a deployment: one run of a step that deploys to an environment.';
COMMENT ON COLUMN audit.deployment_findings.repository_uuid IS 'The UUID of the repository.';
COMMENT ON COLUMN audit.deployment_findings.workspace_uuid IS 'The UUID of the workspace.';
COMMENT ON COLUMN audit.deployment_findings.reconciliation IS 'The reconciliation that found it.';
COMMENT ON COLUMN audit.deployment_findings.deployment_uuid IS 'The deployment environment. Null: Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_findings.pipeline_uuid IS 'The pipeline. Null: Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_findings.step_uuid IS 'The step. Null: Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_findings.build_number IS 'The build number of the pipeline. Null: Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_findings.found_at IS 'When this was found.';
COMMENT ON COLUMN audit.deployment_findings.created_at IS 'When it was made, by the clock of Bitbucket.';
COMMENT ON COLUMN audit.deployment_findings.started_at IS 'When it began, by the clock of Bitbucket. Null: it had not begun, or Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_findings.completed_at IS 'When it ended, by the clock of Bitbucket.';
COMMENT ON COLUMN audit.deployment_findings.state IS 'What Bitbucket reported then: waiting, in_progress, successful, failed, stopped, unknown.';
COMMENT ON COLUMN audit.deployment_findings.class IS 'observed: its step is in this log. pipeline_only: another step of its pipeline is, and it is not. unobserved: nothing of its pipeline is. not_run: its step never ran. pending: it is not over, or too fresh. unknown: Bitbucket reported too little.';
COMMENT ON COLUMN audit.deployment_findings.detail IS 'Why, where the class is not enough.';

-- Row triggers catch what no statement names; ALWAYS: session_replication_role
-- does not switch them off.
-- +goose StatementBegin
DO $$
DECLARE
    t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['reconciliation_scans', 'deployment_findings'] LOOP
        EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                        FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', t);
        EXECUTE format('CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.%I
                        FOR EACH ROW EXECUTE FUNCTION audit.refuse_change()', t);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_change', t);
        EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row_change', t);
        EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', t);
        EXECUTE format('GRANT SELECT, INSERT ON audit.%I TO sallyport_writer', t);
        EXECUTE format('GRANT SELECT ON audit.%I TO sallyport_auditor', t);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.reconciliation_digest(of uuid) RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
    SELECT sha256(convert_to(coalesce(string_agg(line, E'\n' ORDER BY line COLLATE "C"), ''), 'UTF8'))
    FROM (
        SELECT jsonb_build_array('scan', workspace_uuid, repository_uuid, scanned_at, complete_until, requests, runs, in_order, whole,
                                 repository, outcome, detail)::text AS line
        FROM audit.reconciliation_scans WHERE reconciliation = of
        UNION ALL
        SELECT jsonb_build_array('finding', deployment_run_uuid, repository_uuid, workspace_uuid, deployment_uuid, pipeline_uuid, step_uuid,
                                 build_number, found_at, created_at, started_at, completed_at, state, class, detail)::text
        FROM audit.deployment_findings WHERE reconciliation = of
    ) lines
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.reconciliation_digest(uuid) IS 'The SHA-256 of what a reconciliation added: one line of JSON for each row, in the order of their bytes. The attribute digest of its event of kind reconciled is what it was then.';
REVOKE ALL ON FUNCTION audit.reconciliation_digest(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.reconciliation_digest(uuid) TO sallyport_writer, sallyport_auditor;

-- One session at a time reconciles, for hours. A row lock would need a transaction
-- for as long, which holds vacuum back, so this lock belongs to a session: it holds
-- while the session that is named here is connected. Only the owner's functions
-- write the row.
CREATE TABLE sallyport.session_locks (
    name         text COLLATE "C" NOT NULL,
    pid          integer NOT NULL,
    login        oid NOT NULL,
    application  text COLLATE "C" NOT NULL,
    server_start timestamptz NOT NULL,
    acquired_at  timestamptz NOT NULL,
    CONSTRAINT session_locks_pkey PRIMARY KEY (name)
);
INSERT INTO sallyport.session_locks VALUES ('reconciliation', 0, 0, '', '-infinity', '-infinity');
COMMENT ON TABLE sallyport.session_locks IS 'Which session holds a lock for longer than a transaction. A lock whose session has ended is free.';
COMMENT ON COLUMN sallyport.session_locks.name IS 'What the lock is for.';
COMMENT ON COLUMN sallyport.session_locks.pid IS 'The process of the session that holds the lock, as in pg_stat_activity. 0: the lock was released.';
COMMENT ON COLUMN sallyport.session_locks.login IS 'The login of the session.';
COMMENT ON COLUMN sallyport.session_locks.application IS 'The application_name of the session. A process number that another program has now does not hold the lock.';
COMMENT ON COLUMN sallyport.session_locks.server_start IS 'When the server of the session had started. A restart or a failover frees every lock.';
COMMENT ON COLUMN sallyport.session_locks.acquired_at IS 'When the session acquired the lock.';
REVOKE ALL ON sallyport.session_locks FROM PUBLIC;

-- +goose StatementBegin
CREATE FUNCTION audit.try_reconciliation_lock(OUT acquired boolean, OUT holder text, OUT since timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    l sallyport.session_locks;
BEGIN
    acquired := false;
    SELECT * INTO l FROM sallyport.session_locks WHERE name = 'reconciliation' FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN -- a transaction that acquires or confirms it is open
        SELECT s.acquired_at INTO since FROM sallyport.session_locks s WHERE s.name = 'reconciliation';
        holder := audit.sessions_at('sallyport.session_locks');
        RETURN;
    END IF;
    IF l.pid <> pg_backend_pid() AND l.server_start = pg_postmaster_start_time()
       AND EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid AND a.usesysid = l.login AND a.application_name = l.application)
    THEN
        since := l.acquired_at;
        holder := format('%s of %s', l.pid, pg_get_userbyid(l.login));
        RETURN;
    END IF;
    UPDATE sallyport.session_locks SET pid = pg_backend_pid(), login = (SELECT r.oid FROM pg_roles r WHERE r.rolname = session_user),
        application = current_setting('application_name'), server_start = pg_postmaster_start_time(), acquired_at = clock_timestamp()
        WHERE name = 'reconciliation';
    acquired := true;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.try_reconciliation_lock() IS 'Acquires the lock of reconciliation for this session, without waiting. Where another session holds it: which session, of which login, and since when.';

-- +goose StatementBegin
CREATE FUNCTION audit.confirm_reconciliation_lock() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM FROM sallyport.session_locks WHERE name = 'reconciliation' AND pid = pg_backend_pid() AND server_start = pg_postmaster_start_time() FOR UPDATE;
    RETURN FOUND;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.confirm_reconciliation_lock() IS 'Whether this session still holds the lock of reconciliation. No other session acquires it until the transaction ends.';

-- +goose StatementBegin
CREATE FUNCTION audit.release_reconciliation_lock() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '5s'
AS $$
BEGIN
    UPDATE sallyport.session_locks SET pid = 0 WHERE name = 'reconciliation' AND pid = pg_backend_pid() AND server_start = pg_postmaster_start_time();
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.release_reconciliation_lock() IS 'Releases the lock of reconciliation, where this session holds it. The end of the session does as well.';
REVOKE ALL ON FUNCTION audit.try_reconciliation_lock(), audit.confirm_reconciliation_lock(), audit.release_reconciliation_lock() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.try_reconciliation_lock(), audit.confirm_reconciliation_lock(), audit.release_reconciliation_lock() TO sallyport_writer;

CREATE VIEW audit.deployment_reconciliation AS
SELECT f.class, coalesce(f.started_at, f.created_at) AS began, f.completed_at, f.state,
       r.workspace, r.repository, d.deployment_name AS deployment, d.deployment_type,
       coalesce(f.build_number, p.build_number) AS build_number, p.creator, f.detail, f.found_at, f.first_found_at,
       f.workspace_uuid, f.repository_uuid, f.deployment_uuid, f.pipeline_uuid, f.step_uuid, f.deployment_run_uuid, f.reconciliation
FROM (
    SELECT DISTINCT ON (repository_uuid, deployment_run_uuid) *,
           min(found_at) OVER (PARTITION BY repository_uuid, deployment_run_uuid) AS first_found_at
    FROM audit.deployment_findings
    ORDER BY repository_uuid, deployment_run_uuid, found_at DESC
) f
LEFT JOIN LATERAL (
    SELECT n.workspace, n.repository FROM identity.repositories n
    WHERE n.repository_uuid = f.repository_uuid ORDER BY n.valid_from DESC LIMIT 1
) r ON true
LEFT JOIN LATERAL (
    SELECT n.deployment_name, n.deployment_type FROM identity.deployments n
    WHERE n.repository_uuid = f.repository_uuid AND n.deployment_uuid = f.deployment_uuid ORDER BY n.valid_from DESC LIMIT 1
) d ON true
LEFT JOIN identity.pipelines p ON p.pipeline_uuid = f.pipeline_uuid AND p.repository_uuid = f.repository_uuid;
COMMENT ON VIEW audit.deployment_reconciliation IS 'Every deployment that Bitbucket reported, and whether its step used Sallyport. A step that needs no network is unobserved too.';

CREATE VIEW audit.reconciliations AS
SELECT l.outcome, l.scanned_at, s.complete_until, s.last_scanned_at, s.last_scanned_at IS NULL AS never_scanned,
       l.workspace_uuid, coalesce(r.repository, l.repository) AS repository, l.repository_uuid, l.detail,
       (SELECT count(*) FROM identity.deployments n WHERE n.repository_uuid = l.repository_uuid AND n.valid_to IS NULL) AS deployments,
       l.reconciliation
FROM (
    SELECT DISTINCT ON (repository_uuid) * FROM audit.reconciliation_scans ORDER BY repository_uuid, scanned_at DESC, reconciliation DESC
) l
CROSS JOIN LATERAL (
    SELECT max(a.complete_until) AS complete_until,
           max(a.scanned_at) FILTER (WHERE a.outcome NOT IN ('gone', 'not_scanned')) AS last_scanned_at
    FROM audit.reconciliation_scans a WHERE a.repository_uuid = l.repository_uuid
) s
LEFT JOIN identity.repositories r ON r.repository_uuid = l.repository_uuid AND r.valid_to IS NULL;
COMMENT ON VIEW audit.reconciliations IS 'Every repository that Bitbucket listed: whether its deployments were compared with the log, when, up to when, and with what outcome.';

CREATE VIEW audit.self_tests AS
SELECT e.time, e.attributes ->> 'outcome' AS outcome, e.message, e.attributes,
       e.revision, e.commit, e.writer, e.writer_sequence
FROM (SELECT time, message, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes, revision, commit, writer, writer_sequence
      FROM audit.events WHERE kind = 'self_test') e;
COMMENT ON VIEW audit.self_tests IS 'Each run of the self-test: a probe that policy must refuse and one that it must allow, on the way that a step takes.';

-- A writer chooses the attributes: a value that is not a number becomes NULL.
CREATE VIEW audit.unrecorded_totals AS
SELECT DISTINCT ON (e.writer, e.attributes ->> 'from')
       e.time, e.attributes ->> 'from' AS since,
       CASE WHEN e.attributes ->> 'total' ~ '^[0-9]{1,15}$' THEN (e.attributes ->> 'total')::bigint END AS total,
       (SELECT json_object_agg(a.key, a.value ORDER BY a.key) FROM json_each_text(e.attributes) a
        WHERE a.key NOT IN ('from', 'to', 'total') AND a.value ~ '^[0-9]{1,15}$') AS reasons,
       e.writer, e.writer_sequence
FROM (SELECT time, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes, writer, writer_sequence
      FROM audit.events WHERE kind = 'unrecorded_totals') e
ORDER BY e.writer, e.attributes ->> 'from', e.writer_sequence DESC;
COMMENT ON VIEW audit.unrecorded_totals IS 'How many attempts each writer refused without an event of their own, from since until time. The intervals of a writer follow one another.';

-- A refusal that was repeated often is recorded a few times, and then counted. Of
-- several counts with one beginning the last includes the others.
CREATE VIEW audit.repeated_refusals AS
SELECT DISTINCT ON (e.writer, e.decision_id, e.attributes ->> 'from')
       e.time, e.attributes ->> 'from' AS since, e.decision_id,
       CASE WHEN e.attributes ->> 'count' ~ '^[0-9]{1,15}$' THEN (e.attributes ->> 'count')::bigint END AS count,
       e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch, e.action, e.scheme, e.host, e.port, e.reason, e.rule,
       e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid, e.writer, e.writer_sequence
FROM (SELECT *, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes
      FROM audit.events WHERE kind = 'refusals_repeated' AND verdict = 'deny') e
ORDER BY e.writer, e.decision_id, e.attributes ->> 'from', e.writer_sequence DESC;
COMMENT ON VIEW audit.repeated_refusals IS 'How often a refusal of audit.denials was repeated by the same step, for the same target and reason, from since until time, beyond those that have an event of their own.';

-- Of a period, which the view would choose from all of the log.
-- +goose StatementBegin
CREATE FUNCTION audit.repeated_refusals_between(since timestamptz, until timestamptz) RETURNS SETOF audit.repeated_refusals
    LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    SELECT DISTINCT ON (e.writer, e.decision_id, e.attributes ->> 'from')
           e.time, e.attributes ->> 'from', e.decision_id,
           CASE WHEN e.attributes ->> 'count' ~ '^[0-9]{1,15}$' THEN (e.attributes ->> 'count')::bigint END,
           e.workspace, e.repository, e.project, e.deployment, e.deployment_type, e.branch, e.action, e.scheme, e.host, e.port, e.reason, e.rule,
           e.workspace_uuid, e.repository_uuid, e.deployment_uuid, e.pipeline_uuid, e.step_uuid, e.writer, e.writer_sequence
    FROM (SELECT *, convert_from(record, 'UTF8')::json -> 'attributes' AS attributes
          FROM audit.events WHERE kind = 'refusals_repeated' AND verdict = 'deny'
            AND time >= repeated_refusals_between.since AND time < repeated_refusals_between.until) e
    ORDER BY e.writer, e.decision_id, e.attributes ->> 'from', e.writer_sequence DESC;
END;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.repeated_refusals_between(timestamptz, timestamptz) IS 'The rows of audit.repeated_refusals from a time on and before another.';
REVOKE ALL ON FUNCTION audit.repeated_refusals_between(timestamptz, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.repeated_refusals_between(timestamptz, timestamptz) TO sallyport_writer, sallyport_auditor;

-- A view's column means what the column by that name means.
-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT v.relname, a.attname, t.description
        FROM pg_catalog.pg_class v
        JOIN pg_catalog.pg_attribute a ON a.attrelid = v.oid AND a.attnum > 0
        CROSS JOIN LATERAL (
            SELECT pg_catalog.col_description(o.attrelid, o.attnum) AS description
            FROM pg_catalog.unnest(ARRAY['audit.deployment_findings', 'audit.reconciliation_scans', 'audit.events']::regclass[])
                 WITH ORDINALITY AS origin (source, place)
            JOIN pg_catalog.pg_attribute o ON o.attrelid = origin.source AND o.attname = a.attname AND o.attnum > 0
            WHERE v.relname NOT IN ('self_tests', 'unrecorded_totals', 'repeated_refusals') OR origin.place = 3
            ORDER BY CASE WHEN v.relname = 'reconciliations' AND origin.place = 2 THEN 0 ELSE origin.place END LIMIT 1
        ) t
        WHERE v.relnamespace = 'audit'::regnamespace AND v.relname IN ('deployment_reconciliation', 'reconciliations', 'self_tests', 'unrecorded_totals', 'repeated_refusals')
    LOOP
        EXECUTE format('COMMENT ON COLUMN audit.%I.%I IS %L', c.relname, c.attname, c.description);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN audit.deployment_reconciliation.began IS 'When it began, by the clock of Bitbucket; when it was made, where Bitbucket did not report it.';
COMMENT ON COLUMN audit.deployment_reconciliation.workspace IS 'The slug of the workspace now.';
COMMENT ON COLUMN audit.deployment_reconciliation.repository IS 'The full name of the repository now.';
COMMENT ON COLUMN audit.deployment_reconciliation.deployment IS 'The name of the deployment environment, as people wrote it.';
COMMENT ON COLUMN audit.deployment_reconciliation.deployment_type IS 'The type of the deployment environment: test, staging, production.';
COMMENT ON COLUMN audit.deployment_reconciliation.creator IS 'Who started the pipeline. Null where that was not asked.';
COMMENT ON COLUMN audit.deployment_reconciliation.first_found_at IS 'When it was first reported.';
COMMENT ON COLUMN audit.reconciliations.complete_until IS 'Up to when every deployment of the repository was compared. Null: never.';
COMMENT ON COLUMN audit.reconciliations.last_scanned_at IS 'When the latest scan began, regardless of its outcome.';
COMMENT ON COLUMN audit.reconciliations.never_scanned IS 'Whether the repository was never scanned.';
COMMENT ON COLUMN audit.reconciliations.repository IS 'The full name of the repository now.';
COMMENT ON COLUMN audit.reconciliations.outcome IS 'That of the latest reconciliation: complete, absent, partial, forbidden, gone, not_scanned.';
COMMENT ON COLUMN audit.reconciliations.deployments IS 'How many deployment environments it has, as far as is known.';
COMMENT ON COLUMN audit.self_tests.outcome IS 'passed, failed or inconclusive.';
COMMENT ON COLUMN audit.self_tests.message IS 'What differed from what had to be.';
COMMENT ON COLUMN audit.repeated_refusals.time IS 'The end of the interval.';
COMMENT ON COLUMN audit.repeated_refusals.since IS 'The beginning of the interval, as text.';
COMMENT ON COLUMN audit.repeated_refusals.decision_id IS 'That of the first refusal, which every repeat was answered with.';
COMMENT ON COLUMN audit.repeated_refusals.count IS 'How many refusals in the interval have no event of their own.';
COMMENT ON COLUMN audit.unrecorded_totals.time IS 'The end of the interval.';
COMMENT ON COLUMN audit.unrecorded_totals.since IS 'The beginning of the interval, as text: the end of the one before, or the start of the writer.';
COMMENT ON COLUMN audit.unrecorded_totals.total IS 'How many attempts were refused without an event of their own. 0 is recorded once an hour.';
COMMENT ON COLUMN audit.unrecorded_totals.reasons IS 'How many for each reason, as JSON; event_rejected: events that the log itself rejected, its queue being full.';
COMMENT ON COLUMN audit.self_tests.attributes IS 'The request, the expected outcome and the actual outcome, as JSON.';

COMMENT ON COLUMN audit.events.kind IS 'The kind of event: decision, tunnel_closed, request_closed, would_close, target_evaluated, network_checked, policy_loaded, policy_rejected, policy_approval, policy_reevaluated, exception_expiring, candidate_mismatch, writer_started, writer_ended, writer_lost, signing_key, log_forked, name_reassigned, admin, export, retention, hold_set, hold_lifted, reconciled, deployment_unobserved, self_test, refusals_repeated, unrecorded_totals, checkpoints_thinned, schema_attested, access_attested, events_lost, gap_declared, webhook_received, webhook_delivered, webhook_failed, webhook_unqueued, secret_ages.';

REVOKE ALL ON audit.deployment_reconciliation, audit.reconciliations, audit.self_tests, audit.repeated_refusals, audit.unrecorded_totals FROM PUBLIC;
GRANT SELECT ON audit.deployment_reconciliation, audit.reconciliations, audit.self_tests, audit.repeated_refusals, audit.unrecorded_totals TO sallyport_writer, sallyport_auditor;

-- +goose Down

-- Findings are evidence, and not for a migration to destroy.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.reconciliation_scans) OR EXISTS (SELECT FROM audit.deployment_findings) THEN
        RAISE EXCEPTION 'what was found of deployments is not empty: it is not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP FUNCTION audit.repeated_refusals_between(timestamptz, timestamptz);
DROP VIEW audit.repeated_refusals, audit.unrecorded_totals, audit.self_tests, audit.reconciliations, audit.deployment_reconciliation;
DROP FUNCTION audit.release_reconciliation_lock();
DROP FUNCTION audit.confirm_reconciliation_lock();
DROP FUNCTION audit.try_reconciliation_lock();
DROP TABLE sallyport.session_locks;
DROP FUNCTION audit.reconciliation_digest(uuid);
DROP TABLE audit.deployment_findings;
DROP TABLE audit.reconciliation_scans;
