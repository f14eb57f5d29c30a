-- +goose Up

-- The queue of webhook deliveries. A delivery is added in the transaction of its event of
-- kind webhook_received, and its tasks end in the transactions of their events: the program
-- runs the functions accept and end_task beside the event's row. No auditor reads this
-- schema: bodies have what the sender puts there.
CREATE SCHEMA webhook;
REVOKE ALL ON SCHEMA webhook FROM PUBLIC;
GRANT USAGE ON SCHEMA webhook TO sallyport_writer;
COMMENT ON SCHEMA webhook IS 'Webhook deliveries that were accepted, and what is to be done with them.';

CREATE TABLE webhook.deliveries (
    id          uuid NOT NULL,
    request_id  uuid,
    hook_id     uuid,
    received_at timestamptz NOT NULL,
    attempt     integer NOT NULL,
    receiver    text COLLATE "C" NOT NULL,
    kind        text COLLATE "C" NOT NULL,
    event       text COLLATE "C" NOT NULL,
    repository  text COLLATE "C" NOT NULL,
    client      inet,
    body_digest bytea NOT NULL,
    header      json NOT NULL,
    body        bytea,
    CONSTRAINT deliveries_pkey PRIMARY KEY (id),
    CONSTRAINT deliveries_received CHECK (received_at BETWEEN '1970-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'),
    CONSTRAINT deliveries_length CHECK (octet_length(receiver) BETWEEN 1 AND 200 AND octet_length(kind) BETWEEN 1 AND 100 AND octet_length(event) BETWEEN 1 AND 200
        AND octet_length(repository) <= 1000 AND octet_length(body_digest) = 32 AND octet_length(header::text) <= 65536 AND octet_length(body) <= 67108864)
);
-- Compressing a body would delay the events behind it in the writer.
ALTER TABLE webhook.deliveries ALTER COLUMN body SET STORAGE EXTERNAL;
CREATE INDEX deliveries_received ON webhook.deliveries (received_at);
CREATE INDEX deliveries_body ON webhook.deliveries (received_at) WHERE body IS NOT NULL;
COMMENT ON TABLE webhook.deliveries IS 'Deliveries that were verified, allowed and accepted. The id is the decision_id of their events in audit.events.';
COMMENT ON COLUMN webhook.deliveries.id IS 'UUIDv7 of the delivery, by which an endpoint recognizes a repeat.';
COMMENT ON COLUMN webhook.deliveries.request_id IS 'Bitbucket''s id of the request. It is not signed.';
COMMENT ON COLUMN webhook.deliveries.hook_id IS 'Bitbucket''s id of the webhook. It is not signed.';
COMMENT ON COLUMN webhook.deliveries.attempt IS 'Bitbucket''s number of the attempt, from 1. 0: none was given. It is not signed.';
COMMENT ON COLUMN webhook.deliveries.repository IS 'The UUID of the repository, or its full name where Bitbucket gives no UUID. Empty: none.';
COMMENT ON COLUMN webhook.deliveries.header IS 'The header fields that endpoints receive: no credential.';
COMMENT ON COLUMN webhook.deliveries.body IS 'The body as received. Null: deleted because of its age.';

-- A stream is the order that tasks have to keep. Its row is what claimers lock: it holds the
-- lease, so that one task of a stream is leased at a time, whatever order tasks became
-- visible in. The first claim creates it: accepting a delivery locks no row of a
-- stream, and waits for no other instance.
CREATE TABLE webhook.streams (
    fence       bigint NOT NULL DEFAULT 0,
    lease_until timestamptz NOT NULL DEFAULT '-infinity',
    endpoint    text COLLATE "C" NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    CONSTRAINT streams_pkey PRIMARY KEY (stream),
    CONSTRAINT streams_length CHECK (octet_length(stream) BETWEEN 1 AND 1300 AND octet_length(endpoint) BETWEEN 1 AND 200)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 200);
COMMENT ON TABLE webhook.streams IS 'Per endpoint and repository the order of tasks, and the lease on its first open task. The first claim of a stream adds its row, and no row is ever deleted.';
COMMENT ON COLUMN webhook.streams.fence IS 'The number of the latest lease. An acknowledgement with another number is refused.';
COMMENT ON COLUMN webhook.streams.lease_until IS 'The end of the lease by the clock of the database. -infinity: no lease.';

CREATE TABLE webhook.tasks (
    id          bigint GENERATED ALWAYS AS IDENTITY,
    fence       bigint NOT NULL DEFAULT 0,
    not_before  timestamptz NOT NULL DEFAULT '-infinity',
    leased_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    delivery_id uuid NOT NULL,
    attempts    integer NOT NULL DEFAULT 0,
    state       text COLLATE "C" NOT NULL DEFAULT 'pending',
    action      text COLLATE "C" NOT NULL,
    endpoint    text COLLATE "C" NOT NULL,
    stream      text COLLATE "C" NOT NULL,
    last_error  text COLLATE "C",
    CONSTRAINT tasks_pkey PRIMARY KEY (id),
    CONSTRAINT tasks_delivery FOREIGN KEY (delivery_id) REFERENCES webhook.deliveries ON DELETE CASCADE,
    CONSTRAINT tasks_state CHECK (state = ANY (ARRAY['pending', 'leased', 'done', 'dead'])),
    CONSTRAINT tasks_finished CHECK ((finished_at IS NOT NULL) = (state = ANY (ARRAY['done', 'dead']))),
    CONSTRAINT tasks_length CHECK (octet_length(action) BETWEEN 1 AND 100 AND octet_length(endpoint) BETWEEN 1 AND 200
        AND octet_length(stream) BETWEEN 1 AND 1300 AND octet_length(last_error) <= 4000)
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_threshold = 500);
CREATE INDEX tasks_open ON webhook.tasks (endpoint, stream, id) WHERE state IN ('pending', 'leased');
CREATE INDEX tasks_dead ON webhook.tasks (endpoint, id) WHERE state = 'dead';
CREATE INDEX tasks_delivery ON webhook.tasks (delivery_id);
COMMENT ON TABLE webhook.tasks IS 'For each delivery and endpoint the action, its state and its attempts.';
COMMENT ON COLUMN webhook.tasks.id IS 'Ascending in the order of acceptance.';
COMMENT ON COLUMN webhook.tasks.fence IS 'The number of the latest lease of the task.';
COMMENT ON COLUMN webhook.tasks.not_before IS 'When the next attempt may begin.';
COMMENT ON COLUMN webhook.tasks.leased_at IS 'When the latest lease began. Null: there was none.';
COMMENT ON COLUMN webhook.tasks.finished_at IS 'When the task became done or dead.';
COMMENT ON COLUMN webhook.tasks.attempts IS 'How many attempts were started. One without a result counts.';
COMMENT ON COLUMN webhook.tasks.state IS 'pending, leased, done, or dead: given up, and kept for replay.';
COMMENT ON COLUMN webhook.tasks.last_error IS 'Why the latest failed attempt failed.';

CREATE TABLE webhook.seen (
    until    timestamptz NOT NULL,
    delivery uuid NOT NULL,
    receiver text COLLATE "C" NOT NULL,
    key      text COLLATE "C" NOT NULL,
    CONSTRAINT seen_pkey PRIMARY KEY (receiver, key),
    CONSTRAINT seen_until CHECK (until BETWEEN '1970-01-01 00:00:00Z' AND '9999-12-31 23:59:59.999999Z'),
    CONSTRAINT seen_length CHECK (octet_length(receiver) BETWEEN 1 AND 200 AND octet_length(key) BETWEEN 1 AND 200)
);
CREATE INDEX seen_until ON webhook.seen (until);
COMMENT ON TABLE webhook.seen IS 'Requests and bodies by which a repetition is recognized.';
COMMENT ON COLUMN webhook.seen.until IS 'Until when another delivery with this key is a repetition.';
COMMENT ON COLUMN webhook.seen.delivery IS 'The delivery that had the key first.';
COMMENT ON COLUMN webhook.seen.key IS '''request'' and Bitbucket''s id of the request, or ''body'' and the digest of the body.';

-- A refresh is requested by the next number of a sequence, which locks no row: a delivery of
-- one instance does not wait for the commit of another. A number whose transaction is rolled
-- back causes one refresh too many.
CREATE SEQUENCE webhook.policy_refreshes;
COMMENT ON SEQUENCE webhook.policy_refreshes IS 'How often deliveries have requested that the policy is fetched. Every instance compares the number with the last one that it has seen.';
CREATE SEQUENCE webhook.names_refreshes;
COMMENT ON SEQUENCE webhook.names_refreshes IS 'How often deliveries have requested that the names of repositories are fetched.';

-- No function below notifies: a transaction that does holds a lock of the whole server until
-- its commit is on disk. The program notifies after the commit.
-- +goose StatementBegin
CREATE FUNCTION webhook.add_task(delivery uuid, repository text, action text, endpoint text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    stream text := endpoint || ' ' || repository;
    number bigint;
BEGIN
    INSERT INTO webhook.tasks (delivery_id, action, endpoint, stream) VALUES (delivery, action, endpoint, stream) RETURNING id INTO number;
    RETURN number;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.add_task(uuid, text, text, text) IS 'Adds a task behind all others of its stream.';

-- +goose StatementBegin
CREATE FUNCTION webhook.accept(delivery uuid, received_at timestamptz, receiver text, kind text, event text, repository text,
        request_id uuid, hook_id uuid, attempt integer, client inet, body_digest bytea, header json, body bytea,
        allowed boolean, actions text[], endpoints text[]) RETURNS SETOF uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    present timestamptz := clock_timestamp();
    i integer;
BEGIN
    IF request_id IS NOT NULL THEN
        INSERT INTO webhook.seen AS s (receiver, key, until, delivery) VALUES (receiver, 'request ' || request_id, present + interval '24 hours', delivery)
            ON CONFLICT ON CONSTRAINT seen_pkey DO UPDATE SET until = excluded.until, delivery = excluded.delivery WHERE s.until <= present OR s.until > excluded.until + interval '1 minute';
        IF NOT FOUND THEN
            RETURN;
        END IF;
    END IF;
    INSERT INTO webhook.seen AS s (receiver, key, until, delivery) VALUES (receiver, 'body ' || encode(body_digest, 'hex'), present + interval '5 minutes', delivery)
        ON CONFLICT ON CONSTRAINT seen_pkey DO UPDATE SET until = excluded.until, delivery = excluded.delivery WHERE s.until <= present OR s.until > excluded.until + interval '1 minute';
    IF NOT FOUND THEN
        RETURN;
    END IF;
    RETURN NEXT delivery;
    IF NOT allowed THEN
        RETURN;
    END IF;
    INSERT INTO webhook.deliveries (id, received_at, receiver, kind, event, repository, request_id, hook_id, attempt, client, body_digest, header, body)
        VALUES (delivery, received_at, receiver, kind, event, repository, request_id, hook_id, attempt, client, body_digest, header, body);
    FOR i IN 1 .. cardinality(actions) LOOP
        IF actions[i] IN ('refresh_policy', 'refresh_names') THEN
            PERFORM webhook.request_refresh(substr(actions[i], 9));
        ELSIF endpoints[i] <> '' THEN
            PERFORM webhook.add_task(delivery, repository, actions[i], endpoints[i]);
        ELSE
            RAISE EXCEPTION 'the action % needs an endpoint', actions[i] USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.accept(uuid, timestamptz, text, text, text, text, uuid, uuid, integer, inet, bytea, json, bytea, boolean, text[], text[]) IS
    'Accepts a delivery with a task for each action that has an endpoint, and returns its id. Returns no row for a repetition: the request was seen in the last 24 hours, or the body in the last 5 minutes. A delivery that is not allowed is only remembered for that.';

-- +goose StatementBegin
CREATE FUNCTION webhook.request_refresh(name text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
    IF name = 'policy' THEN
        PERFORM nextval('webhook.policy_refreshes');
    ELSIF name = 'names' THEN
        PERFORM nextval('webhook.names_refreshes');
    ELSE
        RAISE EXCEPTION '% is not a kind of refresh', name USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.request_refresh(text) IS 'Counts a request for a refresh: policy or names. The count does not depend on the commit.';

-- Each statement sees what was committed before it began: the first open task is looked for
-- after the stream is locked. Only the clock of the database is read. A time that is further in
-- the future than any lease (10 minutes) or pause (an hour) was written before that clock was set
-- back: it has passed.
-- +goose StatementBegin
CREATE FUNCTION webhook.claim(endpoint text, streams integer, lease interval)
    RETURNS TABLE (id bigint, fence bigint, attempt integer, action text, stream text, delivery_id uuid, leased_at timestamptz, leased_before timestamptz)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    present timestamptz := clock_timestamp();
    due text[];
    name text;
    number bigint;
    first bigint;
BEGIN
    WITH RECURSIVE heads AS (
        (SELECT t.stream, t.id, t.not_before FROM webhook.tasks t
          WHERE t.endpoint = claim.endpoint AND t.state IN ('pending', 'leased') ORDER BY t.stream, t.id LIMIT 1)
        UNION ALL
        SELECT n.stream, n.id, n.not_before FROM heads h CROSS JOIN LATERAL (
            SELECT t.stream, t.id, t.not_before FROM webhook.tasks t
             WHERE t.endpoint = claim.endpoint AND t.state IN ('pending', 'leased') AND t.stream > h.stream ORDER BY t.stream, t.id LIMIT 1) n
    )
    SELECT array_agg(h.stream ORDER BY h.id) INTO due FROM heads h WHERE h.not_before <= present OR h.not_before > present + interval '70 minutes';
    INSERT INTO webhook.streams (stream, endpoint) SELECT d.stream, claim.endpoint FROM unnest(due) AS d(stream)
     WHERE NOT EXISTS (SELECT FROM webhook.streams s WHERE s.stream = d.stream) ORDER BY d.stream
        ON CONFLICT ON CONSTRAINT streams_pkey DO NOTHING;
    FOR name, number IN
        SELECT s.stream, s.fence FROM unnest(due) WITH ORDINALITY AS d(stream, place) JOIN webhook.streams s ON s.stream = d.stream
         WHERE (s.lease_until <= present OR s.lease_until > present + greatest(claim.lease, interval '10 minutes'))
         ORDER BY d.place LIMIT claim.streams FOR UPDATE OF s SKIP LOCKED
    LOOP
        SELECT t.id, t.leased_at INTO first, leased_before FROM webhook.tasks t
         WHERE t.endpoint = claim.endpoint AND t.state IN ('pending', 'leased') AND t.stream = name ORDER BY t.stream, t.id LIMIT 1;
        CONTINUE WHEN first IS NULL;
        UPDATE webhook.tasks t SET state = 'leased', attempts = t.attempts + 1, fence = number + 1, leased_at = present
         WHERE t.id = first AND (t.not_before <= present OR t.not_before > present + interval '70 minutes')
        RETURNING t.id, t.fence, t.attempts, t.action, t.stream, t.delivery_id, t.leased_at INTO id, fence, attempt, action, stream, delivery_id, leased_at;
        CONTINUE WHEN NOT FOUND;
        UPDATE webhook.streams s SET fence = number + 1, lease_until = present + lease WHERE s.stream = name;
        RETURN NEXT;
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.claim(text, integer, interval) IS 'Leases the first open task of at most so many streams of an endpoint, whose time has come and whose stream has no lease.';

-- +goose StatementBegin
CREATE FUNCTION webhook.extend(task bigint, fence bigint, lease interval) RETURNS SETOF bigint
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE webhook.streams s SET lease_until = clock_timestamp() + extend.lease
      FROM webhook.tasks t WHERE t.id = extend.task AND t.state = 'leased' AND t.fence = extend.fence AND s.stream = t.stream AND s.fence = extend.fence
    RETURNING t.id
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.extend(bigint, bigint, interval) IS 'Lets a lease last so long from now. Returns no row if the lease was lost.';

-- +goose StatementBegin
CREATE FUNCTION webhook.end_task(task bigint, fence bigint, state text, error text, pause interval) RETURNS SETOF bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    of record;
BEGIN
    SELECT t.stream INTO of FROM webhook.tasks t WHERE t.id = end_task.task AND t.state = 'leased' AND t.fence = end_task.fence;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE webhook.streams s SET lease_until = '-infinity' WHERE s.stream = of.stream AND s.fence = end_task.fence;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    UPDATE webhook.tasks t SET state = end_task.state, last_error = coalesce(end_task.error, t.last_error),
           not_before = coalesce(clock_timestamp() + end_task.pause, t.not_before),
           finished_at = CASE WHEN end_task.state IN ('done', 'dead') THEN clock_timestamp() END
     WHERE t.id = end_task.task AND t.state = 'leased' AND t.fence = end_task.fence;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease of task % was lost', end_task.task USING ERRCODE = 'serialization_failure';
    END IF;
    RETURN NEXT end_task.task;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION webhook.end_task(bigint, bigint, text, text, interval) IS 'Ends the lease of a task, which becomes pending, done or dead. A pending task can be claimed after the pause. Returns no row, and changes nothing, if the lease was lost.';

REVOKE ALL ON FUNCTION webhook.add_task(uuid, text, text, text), webhook.request_refresh(text), webhook.claim(text, integer, interval),
    webhook.accept(uuid, timestamptz, text, text, text, text, uuid, uuid, integer, inet, bytea, json, bytea, boolean, text[], text[]),
    webhook.extend(bigint, bigint, interval), webhook.end_task(bigint, bigint, text, text, interval) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION webhook.add_task(uuid, text, text, text), webhook.request_refresh(text), webhook.claim(text, integer, interval),
    webhook.accept(uuid, timestamptz, text, text, text, text, uuid, uuid, integer, inet, bytea, json, bytea, boolean, text[], text[]),
    webhook.extend(bigint, bigint, interval), webhook.end_task(bigint, bigint, text, text, interval) TO sallyport_writer;
REVOKE ALL ON webhook.deliveries, webhook.streams, webhook.tasks, webhook.seen FROM PUBLIC;
REVOKE ALL ON SEQUENCE webhook.policy_refreshes, webhook.names_refreshes FROM PUBLIC;
GRANT SELECT, INSERT, DELETE, UPDATE (body) ON webhook.deliveries TO sallyport_writer;
GRANT SELECT, INSERT, UPDATE (fence, lease_until) ON webhook.streams TO sallyport_writer;
GRANT SELECT, INSERT, UPDATE (fence, not_before, leased_at, finished_at, attempts, state, last_error) ON webhook.tasks TO sallyport_writer;
GRANT SELECT, INSERT, DELETE, UPDATE (until, delivery) ON webhook.seen TO sallyport_writer;
GRANT USAGE, SELECT ON SEQUENCE webhook.policy_refreshes, webhook.names_refreshes TO sallyport_writer;

-- One line for each delivery, from the log alone: it stays when the queue is empty.
CREATE VIEW audit.webhook_deliveries AS
SELECT r.time, r.decision_id, r.verdict, r.reason, r.rule, CASE WHEN r.rule IS NOT NULL THEN coalesce(r.rules, ARRAY[r.rule]) END AS rules, r.message, r.revision,
       r.x ->> 'receiver' AS receiver, r.x ->> 'kind' AS kind, r.x ->> 'event' AS event, r.repository, r.repository_uuid, r.x ->> 'refs' AS refs, r.x ->> 'actor' AS actor,
       r.x ->> 'request_id' AS request_id, r.x ->> 'hook_id' AS hook_id, r.x ->> 'attempt' AS attempt, r.x ->> 'body_digest' AS body_digest, r.x ->> 'routes' AS routes, r.client_address, r.listener,
       u.cause AS unqueued, coalesce(o.delivered, '{}') AS delivered, coalesce(o.failed, '{}') AS failed, coalesce(o.dead, '{}') AS dead, o.last_event,
       r.writer, r.writer_sequence
FROM (SELECT e.*, convert_from(e.record, 'UTF8')::json -> 'attributes' AS x FROM audit.events e WHERE e.kind = 'webhook_received') r
LEFT JOIN LATERAL (
    SELECT min(convert_from(q.record, 'UTF8')::json -> 'attributes' ->> 'cause') AS cause
    FROM audit.events q WHERE q.decision_id = r.decision_id AND q.kind = 'webhook_unqueued' AND convert_from(q.record, 'UTF8')::json -> 'attributes' ->> 'event' = 'webhook_received'
) u ON true
LEFT JOIN LATERAL (
    SELECT array_agg(DISTINCT q.x ->> 'endpoint') FILTER (WHERE q.kind = 'webhook_delivered') AS delivered,
           array_agg(DISTINCT q.x ->> 'endpoint') FILTER (WHERE q.kind = 'webhook_failed') AS failed,
           array_agg(DISTINCT q.x ->> 'endpoint') FILTER (WHERE q.kind = 'webhook_failed' AND q.x ->> 'final' = 'true') AS dead, max(q.time) AS last_event
    FROM (SELECT z.time, z.kind, convert_from(z.record, 'UTF8')::json -> 'attributes' AS x FROM audit.events z
           WHERE z.decision_id = r.decision_id AND z.kind IN ('webhook_delivered', 'webhook_failed')) q
) o ON true;
COMMENT ON VIEW audit.webhook_deliveries IS 'Every verified webhook delivery, what was decided about it, and which endpoints accepted it. Bodies are not in the log.';
-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT a.attname, pg_catalog.col_description('audit.events'::regclass, e.attnum) AS description
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_attribute e ON e.attrelid = 'audit.events'::regclass AND e.attname = a.attname AND e.attnum > 0
        WHERE a.attrelid = 'audit.webhook_deliveries'::regclass AND a.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN audit.webhook_deliveries.%I IS %L', c.attname, c.description);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN audit.webhook_deliveries.decision_id IS 'UUIDv7 of the delivery: endpoints receive it as Sallyport-Delivery.';
COMMENT ON COLUMN audit.webhook_deliveries.receiver IS 'The configured receiver that accepted it.';
COMMENT ON COLUMN audit.webhook_deliveries.kind IS 'cloud or data_center.';
COMMENT ON COLUMN audit.webhook_deliveries.event IS 'Bitbucket''s event key, such as repo:push.';
COMMENT ON COLUMN audit.webhook_deliveries.repository IS 'The full name of the repository, as the delivery has it.';
COMMENT ON COLUMN audit.webhook_deliveries.repository_uuid IS 'The UUID of the repository, as the delivery has it. Null for Data Center.';
COMMENT ON COLUMN audit.webhook_deliveries.refs IS 'The branches and tags that changed, as text.';
COMMENT ON COLUMN audit.webhook_deliveries.actor IS 'Who caused the event: a UUID, or Data Center''s number.';
COMMENT ON COLUMN audit.webhook_deliveries.request_id IS 'Bitbucket''s id of the request. It is not signed.';
COMMENT ON COLUMN audit.webhook_deliveries.hook_id IS 'Bitbucket''s id of the webhook. It is not signed.';
COMMENT ON COLUMN audit.webhook_deliveries.attempt IS 'Bitbucket''s number of the attempt. It is not signed.';
COMMENT ON COLUMN audit.webhook_deliveries.body_digest IS 'The SHA-256 of the body, in hexadecimal.';
COMMENT ON COLUMN audit.webhook_deliveries.routes IS 'The actions that the decision ordered, with their endpoints, as text. Null: none.';
COMMENT ON COLUMN audit.webhook_deliveries.client_address IS 'The address that the delivery came from.';
COMMENT ON COLUMN audit.webhook_deliveries.unqueued IS 'Why the delivery was not queued with its event: repeated, refused, or audit_unavailable, where the outcome was not known. Null: it was.';
COMMENT ON COLUMN audit.webhook_deliveries.delivered IS 'The endpoints that have accepted it.';
COMMENT ON COLUMN audit.webhook_deliveries.failed IS 'The endpoints with a failed attempt.';
COMMENT ON COLUMN audit.webhook_deliveries.dead IS 'The endpoints for which it became a dead letter. A replay may have delivered it later.';
COMMENT ON COLUMN audit.webhook_deliveries.last_event IS 'When the latest of these was recorded.';
REVOKE ALL ON audit.webhook_deliveries FROM PUBLIC;
GRANT SELECT ON audit.webhook_deliveries TO sallyport_writer, sallyport_auditor;

-- +goose Down
-- Accepted deliveries are not for a migration to destroy.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM webhook.tasks WHERE state IN ('pending', 'leased')) THEN
        RAISE EXCEPTION 'accepted deliveries are still to be sent: they are not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP VIEW audit.webhook_deliveries;
DROP FUNCTION webhook.end_task(bigint, bigint, text, text, interval);
DROP FUNCTION webhook.extend(bigint, bigint, interval);
DROP FUNCTION webhook.claim(text, integer, interval);
DROP FUNCTION webhook.accept(uuid, timestamptz, text, text, text, text, uuid, uuid, integer, inet, bytea, json, bytea, boolean, text[], text[]);
DROP FUNCTION webhook.request_refresh(text);
DROP FUNCTION webhook.add_task(uuid, text, text, text);
DROP SEQUENCE webhook.policy_refreshes, webhook.names_refreshes;
DROP TABLE webhook.seen, webhook.tasks, webhook.streams, webhook.deliveries;
DROP SCHEMA webhook;
