-- +goose Up

-- Which programs the schema serves. A migration that takes away what an older
-- program uses puts another number here.
CREATE FUNCTION sallyport.oldest_program() RETURNS bigint
    LANGUAGE sql IMMUTABLE
    RETURN 9;
COMMENT ON FUNCTION sallyport.oldest_program() IS 'The newest migration that the oldest program knows which works with this schema.';
REVOKE ALL ON FUNCTION sallyport.oldest_program() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sallyport.oldest_program() TO sallyport_writer, sallyport_sealer, sallyport_auditor;

-- Who may do what one alone can do at a time. Everybody who can connect can take
-- an advisory lock, whatever its number, and keep it forever. A row can be
-- locked by who may change it, and these only by the owner's functions.
CREATE TABLE audit.locks (
    name text COLLATE "C" NOT NULL,
    CONSTRAINT locks_pkey PRIMARY KEY (name)
);
INSERT INTO audit.locks (name) VALUES ('admitted_tokens'), ('database'), ('names'), ('partition'), ('retention'), ('seal');
COMMENT ON TABLE audit.locks IS 'What one session alone does at a time, by a lock on its row: write as the writer "database", make a partition, retention and holds, seal, write names, remove ended tokens.';
COMMENT ON COLUMN audit.locks.name IS 'What it is the turn for.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.locks
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.locks
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.locks ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.locks ENABLE ALWAYS TRIGGER refuse_row_change;
REVOKE ALL ON audit.locks FROM PUBLIC;

-- +goose StatementBegin
CREATE FUNCTION audit.sessions_at(what regclass) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(string_agg(format('%s of %s', s.pid, coalesce(a.usename, '?')), ', ' ORDER BY s.pid), 'which has ended')
    FROM (SELECT DISTINCT l.pid FROM pg_locks l
          WHERE l.locktype = 'relation' AND l.relation = what AND l.granted AND l.pid <> pg_backend_pid()
            AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) LIMIT 20) s
    LEFT JOIN pg_stat_activity a ON a.pid = s.pid
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.sessions_at(regclass) IS 'The sessions that have a lock on a table, and their logins, for an operator who may end them with pg_terminate_backend.';

-- +goose StatementBegin
CREATE FUNCTION audit.acquire_lock(name text, wait boolean) RETURNS boolean
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM FROM audit.locks t WHERE t.name = acquire_lock.name FOR UPDATE SKIP LOCKED;
    IF FOUND OR NOT wait THEN
        RETURN FOUND;
    END IF;
    PERFORM FROM audit.locks t WHERE t.name = acquire_lock.name FOR UPDATE;
    RETURN true;
EXCEPTION WHEN lock_not_available THEN
    RAISE EXCEPTION 'acquire the lock "%" of the audit log: session % holds it and does not end its transaction', acquire_lock.name, audit.sessions_at('audit.locks')
        USING ERRCODE = 'lock_not_available', HINT = 'Try again, or end that session with pg_terminate_backend.';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.acquire_lock(text, boolean) IS 'Holds a named lock until the transaction ends. With wait, waits for it up to lock_timeout; without, returns false if another session holds it.';

-- +goose StatementBegin
CREATE FUNCTION audit.try_seal_lock() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN audit.acquire_lock('seal', false);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.try_seal_lock() IS 'Takes the turn to seal until the transaction ends. False: another session has it.';

-- +goose StatementBegin
CREATE FUNCTION audit.acquire_names_lock() RETURNS timestamptz
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '5s'
AS $$
BEGIN
    PERFORM audit.acquire_lock('names', true);
    RETURN clock_timestamp();
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.acquire_names_lock() IS 'Acquires the lock for writing names until the transaction ends, and returns the time. It waits for at most 5 s; the error then names the session that holds the lock.';

-- +goose StatementBegin
CREATE FUNCTION audit.try_admitted_tokens_lock() RETURNS boolean
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN audit.acquire_lock('admitted_tokens', false);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.try_admitted_tokens_lock() IS 'Acquires the lock for removing ended tokens until the transaction ends. False: another session holds it.';
REVOKE ALL ON FUNCTION audit.acquire_names_lock(), audit.try_admitted_tokens_lock() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.acquire_names_lock(), audit.try_admitted_tokens_lock() TO sallyport_writer;

-- The database itself is a writer of the log. It is called "database", has no
-- start and no end, and numbers its events under a lock, so that they become
-- visible in the order of their numbers: who waits for the lock gets it when
-- the one before has committed.

-- +goose StatementBegin
CREATE FUNCTION audit.escape(value text, most integer) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
AS $$
DECLARE
    -- Control characters, and what moves, hides or splits text where it is shown.
    odd   constant text := U&'[\0001-\001F\007F-\009F\061C\200E\200F\2028-\202E\2066-\2069\FEFF]';
    taken text := '';
    piece text;
    code  integer;
    c     text;
BEGIN
    IF octet_length(value) <= most AND value !~ odd THEN
        RETURN value;
    END IF;
    IF octet_length(value) <= most * 4 THEN -- else it is cut in any case
        piece := value;
    ELSE
        piece := left(value, most + 1);
    END IF;
    DECLARE
        characters constant text[] := string_to_array(piece, NULL);
        escaped text;
        rest text;
    BEGIN
        FOR i IN 1 .. cardinality(characters) LOOP
            c := characters[i];
            IF c ~ odd THEN
                code := ascii(c);
                IF code < 128 THEN
                    escaped := '\x' || lpad(to_hex(code), 2, '0');
                ELSE
                    escaped := '\u{' || to_hex(code) || '}';
                END IF;
            ELSE
                escaped := c;
            END IF;
            IF octet_length(taken) + octet_length(escaped) > most - 3
               AND (octet_length(taken) + octet_length(escaped) > most OR i < cardinality(characters))
            THEN
                rest := array_to_string(characters[i + 1:i + 4], '');
                IF i + 4 > cardinality(characters) AND rest !~ odd AND octet_length(taken) + octet_length(escaped) + octet_length(rest) <= most THEN
                    RETURN taken || escaped || rest;
                END IF;
                RETURN taken || '…';
            END IF;
            taken := taken || escaped;
        END LOOP;
    END;
    RETURN taken;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.escape(text, integer) IS 'A text as the writers of the log escape and cap it: no control character, none that moves or hides text, at most so many bytes.';

-- +goose StatementBegin
CREATE FUNCTION audit.append_event(kind text, VARIADIC attributes text[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET standard_conforming_strings = on
AS $$
#variable_conflict use_variable
DECLARE
    number  bigint;
    at      timestamptz;
    client  inet := inet_client_addr();
    members text := '';
    content text;
BEGIN
    -- A snapshot from before the lock would not show the number before.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the audit log is written to in READ COMMITTED transactions, and this one is %', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    PERFORM audit.acquire_lock('database', true);
    -- A transaction that stays open blocks the other writers. The login can change this
    -- setting.
    IF current_setting('idle_in_transaction_session_timeout')::interval NOT BETWEEN '1 ms' AND '30 s' THEN
        PERFORM set_config('idle_in_transaction_session_timeout', '30s', true);
    END IF;
    -- The event must be on disk before it counts, whatever the session has set.
    IF current_setting('synchronous_commit') <> 'remote_apply' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;
    -- The leaf of an event outlives it.
    number := 1 + greatest(0,
        (SELECT max(e.writer_sequence) FROM audit.events e WHERE e.writer = 'database'),
        (SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = 'database'));
    at := clock_timestamp();
    -- IPv4 inside IPv6 has two spellings: only an attribute distinguishes them.
    IF family(client) = 6 AND host(client) LIKE '%.%' THEN
        attributes := attributes || ARRAY['client_address', host(client)];
        client := NULL;
    END IF;
    FOR i IN 1 .. cardinality(attributes) BY 2 LOOP
        CONTINUE WHEN attributes[i + 1] IS NULL;
        content := audit.escape(attributes[i + 1], 2048);
        members := members || CASE members WHEN '' THEN '' ELSE ',' END
            || '"' || attributes[i] || '":"' || replace(replace(content, '\', '\\'), '"', '\"') || '"';
    END LOOP;
    content := '{"version":1,"time":"' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","kind":"' || kind || '","writer":"database","writer_sequence":' || number
        || coalesce(',"client_address":"' || host(client) || '"', '')
        || CASE members WHEN '' THEN '' ELSE ',"attributes":{' || members || '}' END || '}';
    PERFORM audit.ensure_partition(at::date);
    INSERT INTO audit.events (time, kind, writer, writer_sequence, client_address, record)
    VALUES (at, kind, 'database', number, client, convert_to(content, 'UTF8'));
    RETURN number;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.append_event(text, text[]) IS 'Adds an event of the writer "database", with attributes as name and value by turns, and returns its number. The functions of the log alone call it, as its owner.';

-- The name of a writer carries the digest of a secret that the writer alone has:
-- 12 hexadecimal digits of the milliseconds of its start, "-", and the first 128
-- bits of the SHA-256 of the secret in base64url (RFC 4648 section 5). A session
-- sets sallyport.writer_secret and can then add events under such names alone.
-- The first trigger's condition compares them for each event, with nothing but
-- functions of PostgreSQL: what it calls is resolved here, and not by the search
-- path of the login that inserts. A session without a secret, or with an empty
-- one, has the digest NULL and is not a writer.

-- +goose StatementBegin
CREATE FUNCTION audit.check_writer() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    owner oid := (SELECT c.relowner FROM pg_class c WHERE c.oid = 'audit.events'::regclass);
BEGIN
    -- The database's own functions add the events of the writer "database". A
    -- member of the owner can disable the trigger: a restore does not have to.
    IF NEW.writer = 'database' THEN
        IF current_user = pg_get_userbyid(owner) THEN
            RETURN NULL;
        END IF;
        RAISE EXCEPTION 'the writer "database" is the database itself: its events are written by functions of the schema audit'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    IF pg_has_role(owner, 'MEMBER') THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'add an event of writer "%": the name does not carry the digest of the secret of this session', left(NEW.writer, 100)
        USING ERRCODE = 'insufficient_privilege', HINT = 'A writer has a name that is made from its secret, and sets sallyport.writer_secret in its session.';
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.check_writer() IS 'Refuses an event whose writer is not named by the secret of the session, except those of the database itself and of members of the owner.';

-- +goose StatementBegin
CREATE FUNCTION audit.check_event() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attributes jsonb;
BEGIN
    BEGIN
        attributes := convert_from(NEW.record, 'UTF8')::jsonb -> 'attributes';
        PERFORM (attributes ->> 'reconciliation')::uuid, CASE NEW.kind WHEN 'reconciled' THEN (attributes ->> 'until')::timestamptz END;
        IF NEW.kind = 'policy_approval' THEN
            PERFORM (attributes ->> 'pull_request')::bigint, (attributes ->> 'commits')::bigint, (attributes ->> 'approvers')::jsonb;
        END IF;
        IF NEW.exceptions IS NOT NULL THEN
            PERFORM x.value -> 'path', array(SELECT jsonb_array_elements_text(x.value -> 'hosts')), (x.value ->> 'until')::timestamptz
                FROM jsonb_array_elements((attributes ->> 'exceptions')::jsonb) x;
        END IF;
        IF jsonb_typeof(attributes) <> 'object' OR EXISTS (SELECT FROM jsonb_each(attributes) e WHERE jsonb_typeof(e.value) <> 'string') THEN
            RAISE EXCEPTION 'attributes' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    EXCEPTION WHEN data_exception OR invalid_parameter_value THEN
        RAISE EXCEPTION 'add an event of kind %: its record is not a JSON object whose attributes are text, or an attribute has another form than readers ask for', left(NEW.kind, 100)
            USING ERRCODE = 'check_violation', CONSTRAINT = 'events_record';
    END;
    -- The report of a writer's successor explains its missing numbers: only a session
    -- that knows its secret may become one.
    IF NEW.kind = 'writer_started' AND attributes ->> 'previous_writer' IS NOT NULL
       AND NOT pg_has_role((SELECT c.relowner FROM pg_class c WHERE c.oid = 'audit.events'::regclass), 'MEMBER')
       AND EXISTS (
           SELECT FROM string_to_table(attributes ->> 'previous_writer', ' ') AS p(writer)
           WHERE substr(p.writer, 14) NOT IN (
               SELECT rtrim(translate(encode(substr(sha256(convert_to(s.secret, 'UTF8')), 1, 16), 'base64'), '+/', '-_'), '=')
               FROM string_to_table(current_setting('sallyport.previous_writer_secrets', true), ' ') AS s(secret) WHERE s.secret <> ''))
    THEN
        RAISE EXCEPTION 'add an event of kind writer_started: it names a previous writer whose secret this session has not shown'
            USING ERRCODE = 'insufficient_privilege', HINT = 'A writer that continues others sets sallyport.previous_writer_secrets in its session.';
    END IF;
    RETURN NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.check_event() IS 'Refuses a record that would make the views fail, and a first event that names a previous writer whose secret the session has not shown.';

-- AFTER, for a BEFORE trigger would make COPY insert row by row.
CREATE TRIGGER check_writer AFTER INSERT ON audit.events
    FOR EACH ROW WHEN (
        ltrim(left(NEW.writer, 12), '0123456789abcdef') <> ''
        OR substr(NEW.writer, 13) IS DISTINCT FROM '-' || translate(encode(substr(sha256(convert_to(
            nullif(current_setting('sallyport.writer_secret', true), ''), 'UTF8')), 1, 16), 'base64'), '+/=', '-_'))
    EXECUTE FUNCTION audit.check_writer();
CREATE TRIGGER check_event AFTER INSERT ON audit.events
    FOR EACH ROW WHEN (NEW.kind NOT IN ('decision', 'tunnel_closed', 'request_closed') OR NEW.exceptions IS NOT NULL)
    EXECUTE FUNCTION audit.check_event();
ALTER TABLE audit.events ENABLE ALWAYS TRIGGER check_writer, ENABLE ALWAYS TRIGGER check_event;
-- +goose StatementBegin
DO $$
DECLARE
    partition regclass;
BEGIN
    FOR partition IN SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = 'audit.events'::regclass LOOP
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER check_writer, ENABLE ALWAYS TRIGGER check_event', partition);
    END LOOP;
END
$$;
-- +goose StatementEnd

-- +goose StatementBegin
CREATE FUNCTION audit.record_export(what text, parameters text, rows bigint, digest bytea, tool text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
AS $$
BEGIN
    IF what IS NULL OR what = '' OR octet_length(what) > 500 OR tool IS NULL OR octet_length(tool) > 500
       OR parameters IS NULL OR octet_length(parameters) > 1048576
       OR rows IS NULL OR rows < 0 OR digest IS NULL OR octet_length(digest) <> 32
    THEN
        RAISE EXCEPTION 'an export has: what (1 to 500 bytes), parameters (JSON, at most a megabyte), rows (0 or more), digest (SHA-256, 32 bytes), tool (at most 500 bytes)'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN audit.append_event('export', 'what', what, 'login', session_user::text, 'tool', tool,
        'rows', rows::text, 'digest', 'sha256:' || encode(digest, 'hex'),
        'parameters', parameters,
        'parameters_digest', CASE WHEN audit.escape(parameters, 2048) <> parameters THEN 'sha256:' || encode(sha256(convert_to(parameters, 'UTF8')), 'hex') END);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.record_export(text, text, bigint, bytea, text) IS 'Records that so many rows were handed out of the log, by which tool and query, and the SHA-256 of what was handed out. Returns the number of the event, of the writer "database".';

-- A hold keeps months from being taken away, whatever their age. It is an event
-- when it is set and another when it is lifted; both stay for good.
-- +goose StatementBegin
CREATE FUNCTION audit.set_hold(first_day date, last_day date, reason text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET datestyle = 'ISO'
    SET lock_timeout = '10s'
AS $$
BEGIN
    IF first_day IS NULL OR last_day IS NULL OR first_day < '1970-01-01' OR last_day > '9999-12-31' OR first_day > last_day
       OR reason IS NULL OR reason = '' OR octet_length(reason) > 2000
    THEN
        RAISE EXCEPTION 'a hold has: a first and a last day (1970-01-01 to 9999-12-31), and a reason (1 to 2000 bytes)' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.retention_lock();
    RETURN audit.append_event('hold_set', 'first_day', first_day::text, 'last_day', last_day::text, 'reason', reason, 'login', session_user::text);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.set_hold(date, date, text) IS 'Keeps the events of the months of these days (UTC), the first and the last included, until the hold is lifted. Returns its number.';

-- +goose StatementBegin
CREATE FUNCTION audit.lift_hold(hold bigint, reason text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
AS $$
#variable_conflict use_variable
BEGIN
    IF reason IS NULL OR reason = '' OR octet_length(reason) > 2000 THEN
        RAISE EXCEPTION 'lift hold: a reason is missing or too long: give one of 1 to 2000 bytes' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    PERFORM audit.retention_lock();
    IF NOT EXISTS (SELECT FROM audit.holds h WHERE h.hold = hold AND h.lifted_at IS NULL) THEN
        RAISE EXCEPTION 'there is no hold % in force', hold USING ERRCODE = 'no_data_found';
    END IF;
    RETURN audit.append_event('hold_lifted', 'hold', hold::text, 'reason', reason, 'login', session_user::text);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.lift_hold(bigint, text) IS 'Lifts a hold. Returns the number of its event.';

-- +goose StatementBegin
CREATE FUNCTION audit.retention_lock() RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT audit.acquire_lock('retention', false) THEN
        RAISE EXCEPTION 'retention is at work at this moment, or a hold is being set or lifted, by session %: try again', audit.sessions_at('audit.locks')
            USING ERRCODE = 'lock_not_available';
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.retention_lock() IS 'Keeps retention and the setting and lifting of holds to one at a time, until the transaction ends.';

CREATE VIEW audit.holds AS
SELECT s.writer_sequence AS hold, s.time AS set_at,
       (s.attributes ->> 'first_day')::date AS first_day, (s.attributes ->> 'last_day')::date AS last_day,
       s.attributes ->> 'reason' AS reason, s.attributes ->> 'login' AS set_by,
       l.time AS lifted_at, l.attributes ->> 'reason' AS lifted_because, l.attributes ->> 'login' AS lifted_by
FROM (SELECT e.time, e.writer_sequence, convert_from(e.record, 'UTF8')::json -> 'attributes' AS attributes
      FROM audit.events e WHERE e.kind = 'hold_set' AND e.writer = 'database') s
LEFT JOIN (SELECT e.time, e.writer_sequence, convert_from(e.record, 'UTF8')::json -> 'attributes' AS attributes
      FROM audit.events e WHERE e.kind = 'hold_lifted' AND e.writer = 'database') l
       ON (l.attributes ->> 'hold')::bigint = s.writer_sequence;
COMMENT ON VIEW audit.holds IS 'What is kept from retention, and what was. It is made of the events hold_set and hold_lifted.';
COMMENT ON COLUMN audit.holds.hold IS 'The number of the hold: that of its event, of the writer "database".';
COMMENT ON COLUMN audit.holds.set_at IS 'When it was set, by the clock of the database.';
COMMENT ON COLUMN audit.holds.first_day IS 'The first day whose month is kept.';
COMMENT ON COLUMN audit.holds.last_day IS 'The last day whose month is kept.';
COMMENT ON COLUMN audit.holds.reason IS 'Why, in the words of who set it.';
COMMENT ON COLUMN audit.holds.set_by IS 'The login that set it.';
COMMENT ON COLUMN audit.holds.lifted_at IS 'When it was lifted. Null: it is in force.';
COMMENT ON COLUMN audit.holds.lifted_because IS 'Why it was lifted.';
COMMENT ON COLUMN audit.holds.lifted_by IS 'The login that lifted it.';

-- What retention took, in numbers that the views need. The event is the proof.
CREATE TABLE audit.expired (
    month         date NOT NULL,
    retention     bigint NOT NULL,
    events        bigint NOT NULL,
    last_sequence bigint NOT NULL,
    writer        text COLLATE "C" NOT NULL,
    CONSTRAINT expired_pkey PRIMARY KEY (retention, writer),
    CONSTRAINT expired_events CHECK (events > 0)
);
COMMENT ON TABLE audit.expired IS 'How many events of each writer retention took away. Rows are only ever added, by audit.expire. The proof is the event of kind retention.';
COMMENT ON COLUMN audit.expired.month IS 'The first day of the month (UTC) whose events retention removed.';
COMMENT ON COLUMN audit.expired.retention IS 'The number of the event of kind retention, of the writer "database".';
COMMENT ON COLUMN audit.expired.events IS 'How many events of this writer retention removed.';
COMMENT ON COLUMN audit.expired.last_sequence IS 'The highest number of these.';
COMMENT ON COLUMN audit.expired.writer IS 'The writer whose events retention removed.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.expired
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.expired
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.expired ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.expired ENABLE ALWAYS TRIGGER refuse_row_change;

CREATE FUNCTION audit.chain_step(state bytea, hash bytea) RETURNS bytea
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    AS 'SELECT pg_catalog.sha256(state || hash)';
CREATE AGGREGATE audit.chain(bytea) (sfunc = audit.chain_step, stype = bytea, initcond = '');
COMMENT ON FUNCTION audit.chain_step(bytea, bytea) IS 'One step of audit.chain.';
COMMENT ON AGGREGATE audit.chain(bytea) IS 'A digest over hashes in an order: sha256(digest so far || hash), beginning with nothing.';

-- What is the log's own account of itself: keys, writers, policies, operators'
-- operations, verification, reconciliation, exports, retention. It stays when the events of its month are removed.
CREATE FUNCTION audit.is_exempt_from_retention(kind text, writer text) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN writer = 'database' OR kind IN ('writer_started', 'writer_ended', 'writer_lost', 'signing_key', 'log_forked', 'policy_loaded', 'policy_rejected', 'repository_policy_rejected', 'policy_approval', 'admin',
        'name_reassigned', 'reconciled', 'deployment_unobserved', 'self_test', 'schema_attested', 'access_attested', 'events_lost', 'gap_declared');
COMMENT ON FUNCTION audit.is_exempt_from_retention(text, text) IS 'Whether retention leaves an event of this kind and writer where it is.';

-- +goose StatementBegin
CREATE FUNCTION audit.check_month(INOUT month date, keep_days integer DEFAULT 400,
        OUT events bigint, OUT taken bigint, OUT leaves text[], OUT digest bytea, OUT sealed_by timestamptz,
        OUT writers text[], OUT writers_taken bigint[], OUT last_sequences bigint[], OUT refusal text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET standard_conforming_strings = on
    SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    begins   timestamptz := date_trunc('month', month::timestamp);
    ends     timestamptz := date_trunc('month', month::timestamp) + interval '1 month';
    unsealed bigint;
    changed  bigint;
    copies   bigint;
    topmost  bigint;
    hold     bigint;
    pieces   bigint;
BEGIN
    IF month IS NULL OR keep_days IS NULL OR month <> begins::date THEN
        RAISE EXCEPTION 'retention takes whole months: name the first day of one' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- A year, whichever it is. No login can request less.
    IF keep_days < 366 THEN
        RAISE EXCEPTION 'events are kept for 366 days at least, and not for %', keep_days USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF ends > clock_timestamp() - make_interval(days => keep_days) THEN
        refusal := format('it ended %s, less than %s days ago', to_char(ends, 'YYYY-MM-DD'), keep_days);
        RETURN;
    END IF;
    SELECT min(h.hold) INTO hold FROM audit.holds h
        WHERE h.lifted_at IS NULL AND date_trunc('month', h.first_day::timestamp) < ends AND h.last_day >= begins;
    IF hold IS NOT NULL THEN
        refusal := format('hold %s keeps it', hold);
        RETURN;
    END IF;

    SELECT count(*), count(*) FILTER (WHERE NOT j.stays), count(*) FILTER (WHERE j.index IS NULL),
           count(*) FILTER (WHERE j.index IS NOT NULL AND j.hash <> j.leaf), count(j.index) - count(DISTINCT j.index),
           max(j.index), audit.chain(j.leaf ORDER BY j.index) FILTER (WHERE NOT j.stays)
        INTO events, taken, unsealed, changed, copies, topmost, digest
        FROM (SELECT e.writer, e.writer_sequence, l.index, l.hash AS leaf, sha256('\x00'::bytea || audit.record(e)) AS hash, audit.is_exempt_from_retention(e.kind, e.writer) AS stays
              FROM audit.events e LEFT JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
              WHERE e.time >= begins AND e.time < ends) j;
    SELECT max(c.time) INTO sealed_by FROM audit.checkpoints c
        WHERE c.number <= (SELECT min(o.number) FROM audit.checkpoints o WHERE o.size > topmost);
    SELECT array_agg(w.writer ORDER BY w.writer), array_agg(w.taken ORDER BY w.writer), array_agg(w.last ORDER BY w.writer)
        INTO writers, writers_taken, last_sequences
        FROM (SELECT e.writer, max(e.writer_sequence) AS last, count(*) FILTER (WHERE NOT audit.is_exempt_from_retention(e.kind, e.writer)) AS taken FROM audit.events e WHERE e.time >= begins AND e.time < ends GROUP BY e.writer) w;
    -- What follows one another in the tree is one range; 45 of them are text that
    -- an attribute holds.
    SELECT array_agg(p.text ORDER BY p.place), sum(p.pieces) INTO leaves, pieces
        FROM (SELECT r.place, count(*) AS pieces, string_agg(CASE WHEN r.least = r.most THEN r.least::text ELSE r.least || '-' || r.most END, ',' ORDER BY r.least) AS text
              FROM (SELECT min(i.index) AS least, max(i.index) AS most, (row_number() OVER (ORDER BY min(i.index)) - 1) / 45 AS place
                    FROM (SELECT l.index, l.index - row_number() OVER (ORDER BY l.index) AS island
                          FROM audit.events e JOIN audit.leaves l ON l.writer = e.writer AND l.writer_sequence = e.writer_sequence
                          WHERE e.time >= begins AND e.time < ends) i
                    GROUP BY i.island) r
              GROUP BY r.place) p;

    refusal := CASE
        WHEN unsealed > 0 THEN format('%s of its events are not sealed', unsealed)
        WHEN changed > 0 THEN format('%s of its events are not what was sealed: run sallyport audit verify', changed)
        WHEN copies > 0 THEN format('%s of its events are there twice: run sallyport audit verify', copies)
        WHEN events > 0 AND sealed_by IS NULL THEN 'no checkpoint covers all of its events'
        WHEN sealed_by > clock_timestamp() - make_interval(days => keep_days)
            THEN format('its events were sealed as late as %s, less than %s days ago', to_char(sealed_by, 'YYYY-MM-DD'), keep_days)
        WHEN cardinality(leaves) > 80 THEN format('its events are in %s pieces of the tree, and no event can name so many', pieces)
    END;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.check_month(date, integer) IS 'What audit.expire would take of a month, and why it would refuse (null: it would not). It reads all of the month.';

-- +goose StatementBegin
CREATE FUNCTION audit.expire(month date, keep_days integer DEFAULT 400) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET standard_conforming_strings = on
    SET lock_timeout = '300ms'
AS $$
#variable_conflict use_variable
DECLARE
    partition text := 'events_' || to_char(month, 'YYYY_MM');
    remnant   text := partition || '_remnant';
    m         record;
    number    bigint;
    attributes text[];
    same      boolean;
BEGIN
    PERFORM audit.retention_lock();
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'retention needs a READ COMMITTED transaction' USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'audit.events'::regclass AND inhrelid = to_regclass(format('audit.%I', partition))) THEN
        RAISE EXCEPTION 'the log has no partition for %', to_char(month, 'YYYY-MM') USING ERRCODE = 'undefined_table';
    END IF;
    SELECT * INTO m FROM audit.check_month(month, keep_days);
    IF m.refusal IS NOT NULL THEN
        RAISE EXCEPTION 'the events of % stay: %', to_char(month, 'YYYY-MM'), m.refusal USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF m.taken = 0 THEN
        RETURN NULL;
    END IF;

    -- What stays, in a table that takes the partition's place.
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.events INCLUDING ALL) WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_scale_factor = 0.02)', remnant);
    EXECUTE format('INSERT INTO audit.%I SELECT * FROM audit.%I e WHERE audit.is_exempt_from_retention(e.kind, e.writer)', remnant, partition);
    EXECUTE format('COMMENT ON TABLE audit.%I IS %L', remnant, 'The log''s own events of ' || to_char(month, 'YYYY-MM') || ' (UTC). Retention took the others.');
    EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', remnant);
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', remnant);

    attributes := ARRAY['month', to_char(month, 'YYYY-MM'), 'events', m.taken::text, 'stayed', (m.events - m.taken)::text,
        'digest', 'sha256:' || encode(m.digest, 'hex'), 'sealed_by', to_char(m.sealed_by, 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
        'keep_days', keep_days::text, 'login', session_user::text];
    FOR i IN 1 .. cardinality(m.leaves) LOOP
        attributes := attributes || ARRAY['leaves' || CASE i WHEN 1 THEN '' ELSE '_' || i END, m.leaves[i]];
    END LOOP;

    FOR attempt IN 1 .. 10 LOOP
        BEGIN
            number := audit.append_event('retention', VARIADIC attributes);
            -- No other partition: a timeout is for each lock that is waited for.
            -- With both, no insert waits for us longer than half a second.
            LOCK TABLE ONLY audit.events IN ACCESS EXCLUSIVE MODE;
            PERFORM set_config('lock_timeout', '150ms', true);
            EXECUTE format('LOCK TABLE ONLY audit.%I IN ACCESS EXCLUSIVE MODE', partition);
            -- Nothing may have come since the month was read. A writer's numbers
            -- only grow, so that its last one decides.
            EXECUTE format('WITH RECURSIVE w AS (
                    (SELECT writer FROM audit.%1$I ORDER BY writer LIMIT 1)
                    UNION ALL
                    SELECT (SELECT e.writer FROM audit.%1$I e WHERE e.writer > w.writer ORDER BY e.writer LIMIT 1) FROM w WHERE w.writer IS NOT NULL
                )
                SELECT coalesce(array_agg(w.writer ORDER BY w.writer) = $1 AND array_agg(l.last ORDER BY w.writer) = $2, false)
                FROM w CROSS JOIN LATERAL (SELECT max(e.writer_sequence) AS last FROM audit.%1$I e WHERE e.writer = w.writer) l
                WHERE w.writer IS NOT NULL', partition)
                INTO same USING m.writers, m.last_sequences;
            IF NOT same THEN
                RAISE EXCEPTION 'events of % were added while it was read: try again', to_char(month, 'YYYY-MM') USING ERRCODE = 'serialization_failure';
            END IF;
            EXECUTE format('ALTER TABLE audit.events DETACH PARTITION audit.%I', partition);
            EXECUTE format('DROP TABLE audit.%I', partition);
            EXECUTE format('ALTER TABLE audit.%I RENAME TO %I', remnant, partition);
            EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                partition, date_trunc('month', month::timestamp), date_trunc('month', month::timestamp) + interval '1 month');
            EXECUTE format('ALTER TABLE audit.%1$I ENABLE ALWAYS TRIGGER refuse_change, ENABLE ALWAYS TRIGGER refuse_row_change, ENABLE ALWAYS TRIGGER check_writer, ENABLE ALWAYS TRIGGER check_event', partition);
            INSERT INTO audit.expired (month, retention, events, last_sequence, writer)
                SELECT month, number, w.taken, w.last, w.writer FROM unnest(m.writers, m.writers_taken, m.last_sequences) AS w(writer, taken, last) WHERE w.taken > 0;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF attempt = 10 THEN
                RAISE EXCEPTION 'session % reads or writes the log and does not end its transaction: the events of % stay for now',
                        audit.sessions_at('audit.events'), to_char(month, 'YYYY-MM')
                    USING ERRCODE = 'lock_not_available', HINT = 'End such a session with pg_terminate_backend.';
            END IF;
            PERFORM pg_sleep(0.2 + random());
        END;
    END LOOP;
    RETURN number;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.expire(date, integer) IS 'Takes away the events of the month that begins on that day (UTC), if it ended and was sealed more than so many days ago (366 at least), and nothing holds it. The log''s own events stay, and leaves and checkpoints. Returns the number of its event; null: there was nothing to remove. No insert waits for longer than half a second.';

-- The view as it was. What retention took is not missing.
-- A record that a login made up need not be JSON, and must not make a question
-- about all others fail.
-- +goose StatementBegin
CREATE FUNCTION audit.attribute(record bytea, name text) RETURNS text
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN convert_from(record, 'UTF8')::json -> 'attributes' ->> name;
EXCEPTION WHEN OTHERS THEN
    RETURN NULL;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.attribute(bytea, text) IS 'One attribute of the record of an event; null where there is none, or the record is not JSON.';
REVOKE ALL ON FUNCTION audit.attribute(bytea, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.attribute(bytea, text) TO sallyport_writer, sallyport_auditor;

CREATE VIEW audit.explanations AS
SELECT e.time, e.kind, audit.attribute(e.record, 'writer') COLLATE "C" AS about, n.first_sequence, n.last_sequence,
       audit.attribute(e.record, 'reason') AS reason, e.writer, e.writer_sequence,
       e.kind = 'gap_declared' OR e.writer = audit.attribute(e.record, 'writer') COLLATE "C" OR EXISTS (SELECT FROM audit.events s
           WHERE s.writer = e.writer AND s.writer_sequence = 1 AND s.kind = 'writer_started'
             AND audit.attribute(e.record, 'writer') = ANY (string_to_array(audit.attribute(s.record, 'previous_writer'), ' '))) AS explains
FROM audit.events e
CROSS JOIN LATERAL (SELECT
    CASE WHEN audit.attribute(e.record, 'first') ~ '^[0-9]{1,18}$' THEN audit.attribute(e.record, 'first')::bigint END AS first_sequence,
    CASE WHEN audit.attribute(e.record, 'last') ~ '^[0-9]{1,18}$' THEN audit.attribute(e.record, 'last')::bigint END AS last_sequence) n
WHERE e.kind = 'events_lost' OR e.kind = 'gap_declared' AND e.writer = 'database';
COMMENT ON VIEW audit.explanations IS 'The events that explain why numbers of a writer are missing. A declaration is worth what its signature is worth: sallyport audit verify checks it.';
COMMENT ON COLUMN audit.explanations.time IS 'When the event happened, by the clock of its writer.';
COMMENT ON COLUMN audit.explanations.kind IS 'gap_declared or events_lost.';
COMMENT ON COLUMN audit.explanations.writer IS 'Who wrote the event.';
COMMENT ON COLUMN audit.explanations.writer_sequence IS 'The number of the event within its writer.';
COMMENT ON COLUMN audit.explanations.about IS 'The writer whose numbers are missing.';
COMMENT ON COLUMN audit.explanations.first_sequence IS 'The first of the numbers.';
COMMENT ON COLUMN audit.explanations.last_sequence IS 'The last of the numbers.';
COMMENT ON COLUMN audit.explanations.reason IS 'The reason in the event.';
COMMENT ON COLUMN audit.explanations.explains IS 'Whether it explains missing numbers: a declaration, or a report of their writer or of one whose first event names that as previous_writer. The report of another writer is a claim.';

-- Numbers under which there is neither an event nor a leaf. A difference between the
-- highest number and a count is masked by a number that is there twice, or that
-- no writer gave; two neighbors are not. It reads the primary key's index alone.
-- A login that records adds any number of gaps of its own and of reports: the reports
-- are read once, and of those about one writer the first thousand are compared with
-- each of its gaps. Those that explain come first, so that claims do not displace them.
CREATE VIEW audit.gaps AS
WITH x AS MATERIALIZED (
    SELECT r.about, array_agg(r.e ORDER BY r.place) AS list
    FROM (SELECT e, e.about, row_number() OVER (PARTITION BY e.about ORDER BY e.explains DESC NULLS LAST, e.kind DESC, e.time) AS place
          FROM audit.explanations e WHERE e.first_sequence <= e.last_sequence) r
    WHERE r.place <= 1000
    GROUP BY r.about
)
SELECT g.writer, g.first_sequence, g.last_sequence, g.last_sequence - g.first_sequence + 1 AS numbers, g.after, g.before, CASE WHEN x.explains THEN x.kind END AS explained_by, x.reason, x.writer AS reported_by
FROM (
    SELECT h.writer, r.first AS first_sequence, r.last AS last_sequence, h.after, h.before
    FROM (SELECT writer, writer_sequence AS number, time AS before,
                 lag(writer_sequence, 1, 0::bigint) OVER w AS previous, lag(time) OVER w AS after
          FROM audit.events WINDOW w AS (PARTITION BY writer ORDER BY writer_sequence, time)) h
    CROSS JOIN LATERAL (
        SELECT lag(s.number, 1, h.previous) OVER (ORDER BY s.number) + 1 AS first, s.number - 1 AS last
        FROM (SELECT l.writer_sequence AS number FROM audit.leaves l
              WHERE l.writer = h.writer AND l.writer_sequence > h.previous AND l.writer_sequence < h.number
              UNION ALL SELECT h.number) s) r
    WHERE h.number > h.previous + 1 AND r.last >= r.first
    UNION ALL
    SELECT e.about, greatest(e.first_sequence, k.number + 1), e.last_sequence, k.time, e.time
    FROM audit.explanations e
    CROSS JOIN LATERAL (SELECT greatest((SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = e.about), v.writer_sequence, 0) AS number, v.time
        FROM (SELECT) one LEFT JOIN LATERAL (SELECT v.writer_sequence, v.time FROM audit.events v WHERE v.writer = e.about ORDER BY v.writer_sequence DESC LIMIT 1) v ON true) k
    WHERE e.kind = 'events_lost' AND e.last_sequence > k.number
) g
LEFT JOIN x AS l ON l.about = g.writer
LEFT JOIN LATERAL (SELECT e.kind, e.reason, e.writer, e.explains
    FROM unnest(l.list) WITH ORDINALITY AS e (time, kind, about, first_sequence, last_sequence, reason, writer, writer_sequence, explains, place)
    WHERE e.first_sequence <= g.first_sequence AND e.last_sequence >= g.last_sequence
    ORDER BY e.place LIMIT 1) x ON true;
COMMENT ON VIEW audit.gaps IS 'Runs of numbers that a writer must have given, and under which the log has nothing: neither an event nor a leaf. What retention took has a leaf.';
COMMENT ON COLUMN audit.gaps.writer IS 'The writer whose numbers are missing.';
COMMENT ON COLUMN audit.gaps.first_sequence IS 'The first number that is missing.';
COMMENT ON COLUMN audit.gaps.last_sequence IS 'The last number that is missing.';
COMMENT ON COLUMN audit.gaps.numbers IS 'How many that are.';
COMMENT ON COLUMN audit.gaps.after IS 'The time of the event before the gap, as far as it is here.';
COMMENT ON COLUMN audit.gaps.before IS 'The time of the event behind the gap; of events that were lost at the end of a writer that of the report.';
COMMENT ON COLUMN audit.gaps.explained_by IS 'The kind of the event that accounts for all of the gap: gap_declared or events_lost. Null: none does.';
COMMENT ON COLUMN audit.gaps.reason IS 'The reason in that event, or the claim of reported_by.';
COMMENT ON COLUMN audit.gaps.reported_by IS 'The writer of that event. Where explained_by is null: a writer that claims the numbers are lost, and is neither the gap''s writer nor its successor.';
REVOKE ALL ON audit.explanations, audit.gaps FROM PUBLIC;
GRANT SELECT ON audit.explanations, audit.gaps TO sallyport_writer, sallyport_auditor;

CREATE OR REPLACE VIEW audit.writers AS
SELECT e.writer, e.started_at, e.ended_at, e.first_event, e.last_event, e.events,
       greatest(e.last_sequence, x.last_sequence) AS last_sequence,
       least(greatest(coalesce(n.absent, 0) + greatest(x.last_sequence - e.last_sequence, 0) - coalesce(x.events, 0), g.numbers, 0), 9223372036854775807)::bigint AS missing,
       coalesce(x.events, 0) AS expired
FROM (SELECT writer,
             min(time) FILTER (WHERE kind = 'writer_started') AS started_at,
             max(time) FILTER (WHERE kind = 'writer_ended') AS ended_at,
             min(time) AS first_event, max(time) AS last_event,
             count(*) AS events, max(writer_sequence) AS last_sequence
      FROM audit.events GROUP BY writer) e
LEFT JOIN (SELECT writer, sum(writer_sequence - previous - 1) AS absent
           FROM (SELECT writer, writer_sequence, lag(writer_sequence, 1, 0::bigint) OVER (PARTITION BY writer ORDER BY writer_sequence) AS previous FROM audit.events) v
           WHERE writer_sequence > previous + 1 GROUP BY writer) n ON n.writer = e.writer
LEFT JOIN (SELECT writer, sum(numbers) AS numbers FROM audit.gaps GROUP BY writer) g ON g.writer = e.writer
LEFT JOIN (SELECT writer, sum(events)::bigint AS events, max(last_sequence) AS last_sequence FROM audit.expired GROUP BY writer) x ON x.writer = e.writer;
COMMENT ON VIEW audit.writers IS 'Every process that wrote to the log: when it began and ended, and whether any of its numbers is missing. The writer "database" is the database itself: it has no start and no end.';
COMMENT ON COLUMN audit.writers.missing IS 'How many numbers up to that are not here and were not removed by retention, counted between neighbors, so that no other row hides one. Anything but 0 is a finding; audit.gaps has the place.';
COMMENT ON COLUMN audit.writers.expired IS 'How many of its events retention took.';
COMMENT ON COLUMN audit.events.writer IS 'Who wrote the row: one process of Sallyport, named by the time of its start and the digest of its secret, or "database".';
COMMENT ON COLUMN audit.events.kind IS 'The kind of event: decision, tunnel_closed, request_closed, policy_loaded, policy_rejected, repository_policy_rejected, policy_approval, policy_reevaluated, exception_expiring, candidate_mismatch, writer_started, writer_ended, writer_lost, signing_key, name_reassigned, admin, export, retention, hold_set, hold_lifted.';

-- The function as it was, with one more trigger, a lock that no other login
-- can acquire, and a bound: each partition costs every query something.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.ensure_partition(month date) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET standard_conforming_strings = on
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
    PERFORM audit.acquire_lock('partition', true);
    IF to_regclass(format('audit.%I', partition)) IS NOT NULL THEN
        RETURN partition; -- another made it while we waited
    END IF;
    IF abs(first - (now() AT TIME ZONE 'UTC')::date) > 430
       AND (SELECT count(*) FROM pg_inherits WHERE inhparent = 'audit.events'::regclass) >= 240
    THEN
        RAISE EXCEPTION 'no partition for %: the log has 240 of them, and gets more for the months around now alone', month
            USING ERRCODE = 'program_limit_exceeded';
    END IF;

    -- A row of the usual two kilobytes stays as it is: compressing it would
    -- cost more than writing it.
    EXECUTE format('CREATE TABLE audit.%I (LIKE audit.events INCLUDING ALL) WITH (toast_tuple_target = 8160, autovacuum_vacuum_insert_scale_factor = 0.02)', partition);
    EXECUTE format('COMMENT ON TABLE audit.%I IS %L', partition, 'The events of ' || to_char(first, 'YYYY-MM') || ' (UTC).');
    EXECUTE format('REVOKE ALL ON audit.%I FROM PUBLIC', partition);
    EXECUTE format('CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.%I
                    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change()', partition);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_change', partition);
    EXECUTE format('ALTER TABLE audit.events ATTACH PARTITION audit.%I FOR VALUES FROM (%L) TO (%L)',
                   partition, first::timestamptz, next::timestamptz);
    EXECUTE format('ALTER TABLE audit.%I ENABLE ALWAYS TRIGGER refuse_row_change, ENABLE ALWAYS TRIGGER check_writer, ENABLE ALWAYS TRIGGER check_event', partition);
    RETURN partition;
END
$$;
-- +goose StatementEnd

REVOKE ALL ON audit.expired, audit.holds FROM PUBLIC;
GRANT SELECT ON audit.expired, audit.holds TO sallyport_writer, sallyport_auditor;
REVOKE ALL ON FUNCTION audit.sessions_at(regclass), audit.acquire_lock(text, boolean), audit.try_seal_lock(),
    audit.escape(text, integer), audit.append_event(text, text[]), audit.check_writer(), audit.check_event(), audit.retention_lock(),
    audit.record_export(text, text, bigint, bytea, text), audit.set_hold(date, date, text), audit.lift_hold(bigint, text),
    audit.chain_step(bytea, bytea), audit.chain(bytea), audit.is_exempt_from_retention(text, text), audit.check_month(date, integer), audit.expire(date, integer) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.record_export(text, text, bigint, bytea, text), audit.chain_step(bytea, bytea), audit.chain(bytea), audit.is_exempt_from_retention(text, text)
    TO sallyport_writer, sallyport_auditor;
GRANT EXECUTE ON FUNCTION audit.try_seal_lock() TO sallyport_sealer;
-- To keep more is an auditor's right, to keep less the owner's alone.
GRANT EXECUTE ON FUNCTION audit.set_hold(date, date, text), audit.check_month(date, integer) TO sallyport_auditor;

-- Checkpoints that are older than a week thin out to the first and the last of each
-- clock hour and key. The triggers enforce this rule for every login: the owner's
-- privilege is not enough for the first or the last of an hour, or for a newer one.
-- Signatures are checked by who calls: PostgreSQL has no Ed25519.
-- +goose StatementBegin
CREATE FUNCTION audit.is_thinnable(checkpoint bigint) RETURNS boolean
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    c record;
    -- The name of the key and the beginning of its hash (C2SP signed-note).
    signer constant text := E'\n— ([^ \n]+ [A-Za-z0-9+/]{5})';
BEGIN
    SELECT k.number, k.size, k.time, substring(k.note FROM signer) AS signed_by INTO c FROM audit.checkpoints k WHERE k.number = checkpoint;
    RETURN FOUND AND c.signed_by IS NOT NULL AND c.time < date_trunc('hour', clock_timestamp() - interval '7 days')
        AND EXISTS (SELECT FROM audit.checkpoints k WHERE k.number > c.number AND k.number <= c.number + 100000 AND k.size > c.size
            AND date_trunc('hour', k.time) = date_trunc('hour', c.time) AND substring(k.note FROM signer) = c.signed_by)
        AND EXISTS (SELECT FROM audit.checkpoints k WHERE k.number < c.number AND k.number >= c.number - 100000
            AND date_trunc('hour', k.time) = date_trunc('hour', c.time) AND substring(k.note FROM signer) = c.signed_by);
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.is_thinnable(bigint) IS 'Whether a checkpoint may be removed: it is older than a week, and lies between two others of the same key and clock hour (UTC), of which the later one covers more.';

-- +goose StatementBegin
CREATE FUNCTION audit.thin_checkpoints(numbers bigint[]) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    removed bigint;
    oldest  timestamptz;
    newest  timestamptz;
BEGIN
    PERFORM set_config('sallyport.thinning', 'on', true);
    WITH gone AS (DELETE FROM audit.checkpoints c WHERE c.number = ANY (numbers) RETURNING c.time)
    SELECT count(*), min(g.time), max(g.time) INTO removed, oldest, newest FROM gone g;
    PERFORM set_config('sallyport.thinning', 'off', true);
    IF removed > 0 THEN
        PERFORM audit.append_event('checkpoints_thinned', 'removed', removed::text, 'oldest', oldest::text, 'newest', newest::text, 'login', session_user::text);
    END IF;
    RETURN removed;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.thin_checkpoints(bigint[]) IS 'Takes away the checkpoints with these numbers, all of which have to be thinnable, and records how many in an event. Returns how many there were. For the owner: the caller has checked the signature of a checkpoint that stays, for each.';
REVOKE ALL ON FUNCTION audit.is_thinnable(bigint), audit.thin_checkpoints(bigint[]) FROM PUBLIC;

-- +goose Down
DROP FUNCTION audit.thin_checkpoints(bigint[]);
DROP FUNCTION audit.is_thinnable(bigint);

-- Who does not know this version would call missing what retention took, and
-- lost the writer that has no end.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.expired) OR EXISTS (SELECT FROM audit.events WHERE writer = 'database') THEN
        RAISE EXCEPTION 'the database has written to its audit log itself: that is not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP TRIGGER check_writer ON audit.events;
DROP TRIGGER check_event ON audit.events;
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.ensure_partition(month date) RETURNS text
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
    -- cost more than writing it.
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

-- A view's columns cannot be removed without the views above it. This one
-- stays, and is 0.
CREATE OR REPLACE VIEW audit.writers AS
SELECT writer,
       min(time) FILTER (WHERE kind = 'writer_started') AS started_at,
       max(time) FILTER (WHERE kind = 'writer_ended') AS ended_at,
       min(time) AS first_event, max(time) AS last_event,
       count(*) AS events, max(writer_sequence) AS last_sequence,
       max(writer_sequence) - count(*) AS missing,
       0::bigint AS expired
FROM audit.events
GROUP BY writer;
DROP VIEW audit.gaps, audit.explanations;
DROP FUNCTION audit.attribute(bytea, text);
DROP FUNCTION audit.expire(date, integer);
DROP FUNCTION audit.check_month(date, integer);
DROP FUNCTION audit.is_exempt_from_retention(text, text);
DROP AGGREGATE audit.chain(bytea);
DROP FUNCTION audit.chain_step(bytea, bytea);
DROP FUNCTION audit.lift_hold(bigint, text);
DROP FUNCTION audit.set_hold(date, date, text);
DROP FUNCTION audit.retention_lock();
DROP VIEW audit.holds;
DROP TABLE audit.expired;
DROP FUNCTION audit.record_export(text, text, bigint, bytea, text);
DROP FUNCTION audit.append_event(text, text[]);
DROP FUNCTION audit.check_event();
DROP FUNCTION audit.check_writer();
DROP FUNCTION audit.escape(text, integer);
DROP FUNCTION audit.try_admitted_tokens_lock();
DROP FUNCTION audit.acquire_names_lock();
DROP FUNCTION audit.try_seal_lock();
DROP FUNCTION audit.acquire_lock(text, boolean);
DROP FUNCTION audit.sessions_at(regclass);
DROP TABLE audit.locks;
DROP FUNCTION sallyport.oldest_program();
