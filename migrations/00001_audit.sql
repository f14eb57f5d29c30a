-- +goose Up

CREATE SCHEMA audit;
REVOKE ALL ON SCHEMA audit FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO sallyport_writer, sallyport_auditor;
COMMENT ON SCHEMA audit IS 'The append-only log of decisions and their outcomes.';

-- The writer has escaped and capped all text. Collation "C" sorts by bytes, so that an
-- upgrade of a collation library cannot corrupt an index.
CREATE TABLE audit.events (
    time             timestamptz NOT NULL,
    writer_sequence  bigint NOT NULL,
    port             integer,
    status           integer,
    upstream_status  integer,
    would_deny       boolean,
    bytes_sent       bigint,
    bytes_received   bigint,
    duration         interval,
    decision_id      uuid,
    workspace_uuid   uuid,
    repository_uuid  uuid,
    deployment_uuid  uuid,
    pipeline_uuid    uuid,
    step_uuid        uuid,
    writer           text COLLATE "C" NOT NULL,
    kind             text COLLATE "C" NOT NULL,
    issuer           text COLLATE "C",
    credential_kind  text COLLATE "C",
    workspace        text COLLATE "C",
    repository       text COLLATE "C",
    project          text COLLATE "C",
    deployment       text COLLATE "C",
    deployment_type  text COLLATE "C",
    branch           text COLLATE "C",
    client_address   inet,
    listener         text COLLATE "C",
    action           text COLLATE "C",
    scheme           text COLLATE "C",
    host             text COLLATE "C",
    method           text COLLATE "C",
    path             text COLLATE "C",
    target_raw       text COLLATE "C",
    verdict          text COLLATE "C",
    mode             text COLLATE "C",
    reason           text COLLATE "C",
    rule             text COLLATE "C",
    rules            text[] COLLATE "C",
    exceptions       text[] COLLATE "C",
    message          text COLLATE "C",
    revision         text COLLATE "C",
    commit           text COLLATE "C",
    repository_revision text COLLATE "C",
    upstream_proxy   text COLLATE "C",
    dialed_address   inet,
    addresses        inet[],
    close_reason     text COLLATE "C",
    record_rest      text COLLATE "C",
    record           bytea,
    CONSTRAINT events_pkey PRIMARY KEY (writer, writer_sequence, time),
    -- Up to 2^53-1: adding one does not overflow, and JSON readers represent it exactly.
    CONSTRAINT events_writer_sequence_positive CHECK (writer_sequence BETWEEN 1 AND 9007199254740991),
    -- The bound exceeds what a server writes, and is below the maximum line of an export or
    -- a pack. A value that compresses well uses a hundredth of its size on disk. Without a
    -- bound, a few such rows keep every reader, and the sealer, busy permanently.
    CONSTRAINT events_length CHECK (octet_length(record) <= 3145728 AND octet_length(record_rest) <= 1048576 AND pg_column_size(ROW(
        writer, kind, issuer, credential_kind, workspace, repository, project, deployment, deployment_type, branch,
        client_address, listener, action, scheme, host, method, path, target_raw, verdict, mode, reason, rule, rules,
        exceptions, message, revision, commit, repository_revision, upstream_proxy, dialed_address, addresses, close_reason)) <= 1048576),
    -- A record that is not stored is computed from the columns. Each value therefore must
    -- have the same text in audit.record and in the programs. The constraint refuses a
    -- network in place of an address, days in a duration, and an empty or nested list. It
    -- also refuses the IPv6 addresses (::/96) that PostgreSQL prints with an embedded IPv4
    -- address.
    CONSTRAINT events_record_follows CHECK (record IS NOT NULL AND record_rest IS NULL OR record IS NULL
        AND kind IN ('decision', 'tunnel_closed', 'request_closed') AND exceptions IS NULL
        AND (record_rest IS NULL OR record_rest = '' OR starts_with(record_rest, '"attributes":{') OR starts_with(record_rest, '"input_parts":{') OR starts_with(record_rest, '"input":'))
        AND (duration IS NULL OR extract(day FROM duration) = 0 AND extract(month FROM duration) = 0 AND extract(year FROM duration) = 0)
        AND (client_address IS NULL OR set_masklen(client_address, -1) = client_address AND (NOT client_address << inet '::/96' OR client_address IN (inet '::', inet '::1')))
        AND (dialed_address IS NULL OR set_masklen(dialed_address, -1) = dialed_address AND (NOT dialed_address << inet '::/96' OR dialed_address IN (inet '::', inet '::1')))
        AND (addresses IS NULL OR array_ndims(addresses) IS NOT DISTINCT FROM 1 AND array_position(addresses, NULL) IS NULL
             AND strpos(array_to_string(addresses, ' '), '/') = 0 AND NOT inet '::/96' >> ANY (addresses))
        AND (rules IS NULL OR array_ndims(rules) IS NOT DISTINCT FROM 1 AND array_position(rules, NULL) IS NULL AND strpos(array_to_string(rules, ''), E'\x01') = 0))
) PARTITION BY RANGE (time);

COMMENT ON TABLE audit.events IS 'One row for each event, partitioned by month in UTC. Rows are only added. The columns are copies for queries; the record is the event.';
COMMENT ON COLUMN audit.events.time IS 'The time of the event, by the clock of the writer, in whole microseconds. Stamped once, before the first attempt to write.';
COMMENT ON COLUMN audit.events.kind IS 'The kind of event: decision, tunnel_closed, request_closed, policy_loaded, policy_rejected, repository_policy_rejected, policy_approval, policy_reevaluated, exception_expiring, candidate_mismatch, writer_started, writer_ended, writer_lost, signing_key, name_reassigned, admin.';
COMMENT ON COLUMN audit.events.decision_id IS 'UUIDv7 of the decision. The end of a tunnel or request has the id of the decision that allowed it, and does not repeat its columns.';
COMMENT ON COLUMN audit.events.writer IS 'The process of Sallyport that wrote the row, named by the time of its start and the digest of its secret.';
COMMENT ON COLUMN audit.events.writer_sequence IS 'The number of the event within its writer: from 1, without gaps, in the order of writing.';
COMMENT ON COLUMN audit.events.issuer IS 'The issuer of the verified token.';
COMMENT ON COLUMN audit.events.credential_kind IS 'The kind of credential that was presented. Null if none was verified.';
COMMENT ON COLUMN audit.events.workspace_uuid IS 'The Bitbucket workspace, from the verified token.';
COMMENT ON COLUMN audit.events.repository_uuid IS 'The Bitbucket repository, from the verified token.';
COMMENT ON COLUMN audit.events.deployment_uuid IS 'The Bitbucket deployment environment, from the verified token. Null where the step deploys nothing.';
COMMENT ON COLUMN audit.events.pipeline_uuid IS 'The Bitbucket pipeline, from the verified token.';
COMMENT ON COLUMN audit.events.step_uuid IS 'The step of the pipeline, from the verified token.';
COMMENT ON COLUMN audit.events.workspace IS 'The slug of the workspace at that moment.';
COMMENT ON COLUMN audit.events.repository IS 'The full name of the repository at that moment, workspace/repository.';
COMMENT ON COLUMN audit.events.project IS 'The key of the project of the repository at that moment.';
COMMENT ON COLUMN audit.events.deployment IS 'The slug of the deployment environment at that moment.';
COMMENT ON COLUMN audit.events.deployment_type IS 'The type of the deployment environment at that moment: test, staging, production.';
COMMENT ON COLUMN audit.events.branch IS 'The branch that the token names.';
COMMENT ON COLUMN audit.events.client_address IS 'The address that the connection came from.';
COMMENT ON COLUMN audit.events.listener IS 'The listener that accepted the connection.';
COMMENT ON COLUMN audit.events.action IS 'The requested action: connect (a tunnel) or request (one HTTP request).';
COMMENT ON COLUMN audit.events.scheme IS 'The scheme of the target.';
COMMENT ON COLUMN audit.events.host IS 'The canonical host of the target: the same spelling for policy, DNS and dial.';
COMMENT ON COLUMN audit.events.port IS 'The port of the target.';
COMMENT ON COLUMN audit.events.method IS 'The method of an HTTP request that could be read.';
COMMENT ON COLUMN audit.events.path IS 'The path of an HTTP request that could be read, without its query.';
COMMENT ON COLUMN audit.events.target_raw IS 'The target as received, escaped and capped. Null if it was received in the canonical form.';
COMMENT ON COLUMN audit.events.verdict IS 'allow or deny. Null where nothing was decided.';
COMMENT ON COLUMN audit.events.mode IS 'enforce, or report: denials pass for now and are recorded as such.';
COMMENT ON COLUMN audit.events.would_deny IS 'Whether the request passed only because of report mode. Null if there is no verdict.';
COMMENT ON COLUMN audit.events.reason IS 'The reason for the verdict: one value of a fixed list.';
COMMENT ON COLUMN audit.events.rule IS 'The id of the rule that decided. Null where none did.';
COMMENT ON COLUMN audit.events.rules IS 'The ids of all rules that matched, the deciding one first. Null if rule is the only one.';
COMMENT ON COLUMN audit.events.exceptions IS 'The places in the documents of the policy of the exceptions that applied: each names the repository and the target, and was in force. Empty text: a rule created an exception. Null if none applied.';
COMMENT ON COLUMN audit.events.message IS 'The message of the policy author to the client, or the detail of a refusal.';
COMMENT ON COLUMN audit.events.revision IS 'The digest of the policy that decided, or that ended a tunnel or request; its content is in audit.policies.';
COMMENT ON COLUMN audit.events.commit IS 'The Git commit of that policy, where it came from Git.';
COMMENT ON COLUMN audit.events.repository_revision IS 'The digest of the earlier policy whose rules of the repository were evaluated, because those of the later policy were rejected. Null: the rules of revision were evaluated.';
COMMENT ON COLUMN audit.events.status IS 'The HTTP status that Sallyport answered with.';
COMMENT ON COLUMN audit.events.upstream_proxy IS 'The upstream proxy, as a URL. Null where the connection was direct, and where the request was refused before one was chosen.';
COMMENT ON COLUMN audit.events.dialed_address IS 'The address of the target that was dialed, or is the first to be dialed. Null in an allow whose name the proxy in upstream_proxy resolved.';
COMMENT ON COLUMN audit.events.addresses IS 'All addresses of the target that were pinned for dialing. Null if dialed_address is the only one.';
COMMENT ON COLUMN audit.events.bytes_sent IS 'Bytes written to the connection to the target: what a tunnel relays, or an HTTP request with its head and framing. Only in an event that closes.';
COMMENT ON COLUMN audit.events.bytes_received IS 'Bytes read from the connection to the target and passed on, counted in the same way. Only in an event that closes.';
COMMENT ON COLUMN audit.events.duration IS 'How long the tunnel or request lasted, in whole microseconds. Only in an event that closes.';
COMMENT ON COLUMN audit.events.close_reason IS 'The reason for the end of the tunnel or request. audit_unavailable: the request was allowed but recorded too late, so no connection was opened.';
COMMENT ON COLUMN audit.events.upstream_status IS 'The HTTP status that the target answered with, where it could be read.';
COMMENT ON COLUMN audit.events.record_rest IS 'The end of a record that is not stored, after the fields that are columns: attributes and the parts of the policy input. Empty text: the input of a pipeline step without a scheme. Null: nothing.';
COMMENT ON COLUMN audit.events.record IS 'The whole event as UTF-8 JSON. Null for most decisions and ends, whose record is computed from the columns. audit.record returns the record of every event.';

-- The planner inlines a function with one SELECT and no subquery, and then reads only the
-- columns. PostgreSQL parses the body when it creates the function: no search_path and no
-- setting changes its meaning.
CREATE FUNCTION audit.record(e audit.events) RETURNS bytea
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN coalesce((e).record, convert_to(concat(
        '{"version":1,"time":"', to_char((e).time AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), '"',
        ',"kind":"' || replace(replace((e).kind, '\', '\\'), '"', '\"') || '"',
        ',"decision_id":"' || (e).decision_id::text || '"',
        ',"writer":"' || replace(replace((e).writer, '\', '\\'), '"', '\"') || '"',
        ',"writer_sequence":' || (e).writer_sequence::text,
        ',"issuer":"' || replace(replace((e).issuer, '\', '\\'), '"', '\"') || '"',
        ',"credential_kind":"' || replace(replace((e).credential_kind, '\', '\\'), '"', '\"') || '"',
        ',"workspace_uuid":"' || (e).workspace_uuid::text || '"',
        ',"repository_uuid":"' || (e).repository_uuid::text || '"',
        ',"deployment_uuid":"' || (e).deployment_uuid::text || '"',
        ',"pipeline_uuid":"' || (e).pipeline_uuid::text || '"',
        ',"step_uuid":"' || (e).step_uuid::text || '"',
        ',"workspace":"' || replace(replace((e).workspace, '\', '\\'), '"', '\"') || '"',
        ',"repository":"' || replace(replace((e).repository, '\', '\\'), '"', '\"') || '"',
        ',"project":"' || replace(replace((e).project, '\', '\\'), '"', '\"') || '"',
        ',"deployment":"' || replace(replace((e).deployment, '\', '\\'), '"', '\"') || '"',
        ',"deployment_type":"' || replace(replace((e).deployment_type, '\', '\\'), '"', '\"') || '"',
        ',"branch":"' || replace(replace((e).branch, '\', '\\'), '"', '\"') || '"',
        ',"client_address":"' || host((e).client_address) || '"',
        ',"listener":"' || replace(replace((e).listener, '\', '\\'), '"', '\"') || '"',
        ',"action":"' || replace(replace((e).action, '\', '\\'), '"', '\"') || '"',
        ',"scheme":"' || replace(replace((e).scheme, '\', '\\'), '"', '\"') || '"',
        ',"host":"' || replace(replace((e).host, '\', '\\'), '"', '\"') || '"',
        ',"port":' || (e).port::text,
        ',"method":"' || replace(replace((e).method, '\', '\\'), '"', '\"') || '"',
        ',"path":"' || replace(replace((e).path, '\', '\\'), '"', '\"') || '"',
        ',"target_raw":"' || replace(replace((e).target_raw, '\', '\\'), '"', '\"') || '"',
        ',"verdict":"' || replace(replace((e).verdict, '\', '\\'), '"', '\"') || '"',
        ',"mode":"' || replace(replace((e).mode, '\', '\\'), '"', '\"') || '"',
        ',"would_deny":' || (e).would_deny::text,
        ',"reason":"' || replace(replace((e).reason, '\', '\\'), '"', '\"') || '"',
        ',"rule":"' || replace(replace((e).rule, '\', '\\'), '"', '\"') || '"',
        ',"rules":["' || replace(replace(replace(array_to_string((e).rules, E'\x01'), '\', '\\'), '"', '\"'), E'\x01', '","') || '"]',
        ',"exceptions":["' || replace(replace(replace(array_to_string((e).exceptions, E'\x01'), '\', '\\'), '"', '\"'), E'\x01', '","') || '"]',
        ',"message":"' || replace(replace((e).message, '\', '\\'), '"', '\"') || '"',
        ',"revision":"' || replace(replace((e).revision, '\', '\\'), '"', '\"') || '"',
        ',"commit":"' || replace(replace((e).commit, '\', '\\'), '"', '\"') || '"',
        ',"repository_revision":"' || replace(replace((e).repository_revision, '\', '\\'), '"', '\"') || '"',
        ',"status":' || (e).status::text,
        ',"upstream_proxy":"' || replace(replace((e).upstream_proxy, '\', '\\'), '"', '\"') || '"',
        ',"dialed_address":"' || host((e).dialed_address) || '"',
        ',"addresses":["' || array_to_string((e).addresses, '","') || '"]',
        ',"bytes_sent":' || (e).bytes_sent::text,
        ',"bytes_received":' || (e).bytes_received::text,
        ',"duration":' || (extract(epoch FROM (e).duration) * 1000000)::bigint::text,
        ',"close_reason":"' || replace(replace((e).close_reason, '\', '\\'), '"', '\"') || '"',
        ',"upstream_status":' || (e).upstream_status::text,
        CASE (e).record_rest WHEN '' THEN ',"input_parts":{"kind":"pipeline_step"}' ELSE ',' || (e).record_rest END,
        '}'), 'UTF8'));
COMMENT ON FUNCTION audit.record(audit.events) IS 'The record of an event: the complete event as UTF-8 JSON. Read it with convert_from(audit.record(e), ''UTF8'')::json. Its leaf in the Merkle tree is sha256(''\x00''::bytea || audit.record(e)).';
REVOKE ALL ON FUNCTION audit.record(audit.events) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.record(audit.events) TO sallyport_writer, sallyport_auditor;

-- time and decision_id (UUIDv7) increase with time: inserts go to the end of the index. The
-- other indexes contain only decisions, or only denials.
CREATE INDEX events_time ON audit.events (time);
CREATE INDEX events_decision_id ON audit.events (decision_id) WHERE decision_id IS NOT NULL;
CREATE INDEX events_repository ON audit.events (repository_uuid, time) WHERE kind = 'decision';
CREATE INDEX events_host ON audit.events (host, time) WHERE kind = 'decision';
-- Queries over a month read only these indexes, not the wide rows. They contain the columns
-- that most queries group and filter by, and the outcome.
CREATE INDEX events_decisions ON audit.events (time) INCLUDE (decision_id, verdict, reason, would_deny, rule, credential_kind,
    repository_uuid, repository, deployment_uuid, deployment, host, port, action, scheme, step_uuid, client_address) WHERE kind = 'decision';
CREATE INDEX events_ends ON audit.events (decision_id, time) INCLUDE (kind, bytes_sent, bytes_received) WHERE kind IN ('tunnel_closed', 'request_closed');
-- These store each value once (deduplication), with a few bytes for each decision.
CREATE INDEX events_destination ON audit.events (repository_uuid, host, port) WHERE kind = 'decision' AND verdict = 'allow' AND credential_kind IS DISTINCT FROM 'self_test';
CREATE INDEX events_rule ON audit.events (rule) WHERE kind = 'decision' AND verdict = 'allow' AND credential_kind IS DISTINCT FROM 'self_test';
-- GET /step reads these of a step.
CREATE INDEX events_denied_step ON audit.events (step_uuid, time) WHERE verdict = 'deny' OR kind = 'would_close';
-- The ends that the proxy forced, which are few. GET /step reads those of a step.
CREATE INDEX events_forced_ends ON audit.events (time) INCLUDE (decision_id, close_reason) WHERE kind IN ('tunnel_closed', 'request_closed')
    AND close_reason NOT IN ('finished', 'client_closed', 'target_closed', 'client_error', 'target_error', 'http_request');
CREATE INDEX events_exceptions ON audit.events (time) WHERE exceptions IS NOT NULL;
CREATE INDEX events_kind ON audit.events (kind, time) WHERE kind NOT IN ('decision', 'tunnel_closed', 'request_closed');
-- The sealer reads the events that name a key in pages, because the login that records can
-- add any number of them.
CREATE INDEX events_signing_keys ON audit.events (writer, writer_sequence) WHERE kind = 'signing_key';

CREATE TABLE audit.policies (
    digest     text COLLATE "C" CONSTRAINT policies_pkey PRIMARY KEY,
    content    bytea NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- The largest policy that a server loads: files of 128 MiB, 250,000 paths, and the library.
    CONSTRAINT policies_content CHECK (octet_length(content) <= 402653184),
    -- Prevents other content under the digest of a future policy.
    CONSTRAINT policies_digest CHECK (digest = 'sha256:' || encode(sha256(content), 'hex'))
);
COMMENT ON TABLE audit.policies IS 'The content of each policy that was ever loaded, once.';
COMMENT ON COLUMN audit.policies.digest IS 'The digest of the content: the column revision of audit.events.';
COMMENT ON COLUMN audit.policies.content IS 'All files of the policy, in the form from which the digest was computed.';
COMMENT ON COLUMN audit.policies.first_seen IS 'When an instance first loaded the policy, by the clock of the database.';

-- +goose StatementBegin
CREATE FUNCTION audit.refuse_change() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    -- audit.thin_checkpoints alone asks for this, and each row has to be one that may go.
    IF TG_OP = 'DELETE' AND TG_TABLE_SCHEMA = 'audit' AND TG_TABLE_NAME = 'checkpoints' AND current_setting('sallyport.thinning', true) = 'on' THEN
        IF TG_LEVEL = 'STATEMENT' THEN
            RETURN NULL;
        ELSIF audit.is_thinnable(OLD.number) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION '% of %.% refused: the audit log is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.refuse_change() IS 'Refuses every UPDATE, DELETE and TRUNCATE of its table. Exception: DELETE of old checkpoints between others of the same hour (audit.is_thinnable).';
REVOKE ALL ON FUNCTION audit.refuse_change() FROM PUBLIC;

-- Statement triggers refuse a statement even if no row matches. A parent's statement trigger
-- does not fire for a statement on a partition, so each partition has its own
-- (audit.ensure_partition). PostgreSQL clones the row triggers of the parent to the
-- partitions. They refuse changes without a statement on the table, such as a foreign key's
-- cascade. ALWAYS: session_replication_role does not disable the triggers.
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.events
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.events
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.policies
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.policies
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE audit.policies ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.policies ENABLE ALWAYS TRIGGER refuse_row_change;

-- CREATE TABLE … PARTITION OF waits for every open INSERT, and all later INSERTs wait for it.
-- ATTACH PARTITION of a separately created table takes a lock that does not conflict with
-- INSERT.
-- +goose StatementBegin
CREATE FUNCTION audit.ensure_partition(month date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET lock_timeout = '3s'
AS $$
DECLARE
    first     date := date_trunc('month', month::timestamp)::date;
    next      date := (date_trunc('month', month::timestamp) + interval '1 month')::date;
    partition text := 'events_' || to_char(first, 'YYYY_MM');
BEGIN
    IF first < date '1970-01-01' OR first > date '9999-12-01' THEN
        RAISE EXCEPTION 'no partition for %: the log holds the years 1970 to 9999', month
            USING ERRCODE = 'datetime_field_overflow';
    END IF;
    IF to_regclass(format('audit.%I', partition)) IS NOT NULL THEN
        RETURN partition;
    END IF;
    -- Only migrations call this version: 00005 replaces it by one that locks a row.

    -- A row of the usual two kilobytes stays as it is: compressing it would
    -- cost more than writing it. Questions are answered from indexes alone as far as
    -- vacuum has marked pages as visible to all.
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.events INCLUDING ALL) WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_scale_factor = 0.02)', partition);
    EXECUTE format('COMMENT ON TABLE audit.%I IS %L', partition, 'The events of ' || to_char(first, 'YYYY-MM') || ' (UTC).');
    EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', partition);
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', partition);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_change', partition);
    EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, first::timestamptz, next::timestamptz);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row_change', partition);
    RETURN partition;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.ensure_partition(date) IS 'Creates the partition for the month of that day (UTC), if it does not exist, and returns its name. INSERTs do not wait for it.';
REVOKE ALL ON FUNCTION audit.ensure_partition(date) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.ensure_partition(date) TO sallyport_writer;

-- The previous month too: on its last night an event can be recorded in the next month.
SELECT audit.ensure_partition(((now() AT TIME ZONE 'UTC') - interval '1 month')::date);
SELECT audit.ensure_partition((now() AT TIME ZONE 'UTC')::date);
SELECT audit.ensure_partition(((now() AT TIME ZONE 'UTC') + interval '1 month')::date);

REVOKE ALL ON audit.events, audit.policies FROM PUBLIC;
GRANT SELECT, INSERT ON audit.events TO sallyport_writer;
GRANT SELECT, INSERT (digest, content) ON audit.policies TO sallyport_writer;
GRANT SELECT ON audit.events, audit.policies TO sallyport_auditor;

-- +goose Down

-- A log with any content is evidence: a migration must not delete it.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.events) OR EXISTS (SELECT FROM audit.policies) THEN
        RAISE EXCEPTION 'the audit log is not empty: it is not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP FUNCTION audit.record(audit.events);
DROP TABLE audit.events;
DROP TABLE audit.policies;
DROP FUNCTION audit.ensure_partition(date);
DROP FUNCTION audit.refuse_change();
DROP SCHEMA audit;
