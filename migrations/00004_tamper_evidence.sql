-- +goose Up

-- The leaves of the log's Merkle tree (RFC 6962 section 2.1), in its order. They
-- outlive the events that retention takes away: a hash reveals nothing of what was
-- asked, and the tree cannot be rebuilt without it.
CREATE TABLE audit.leaves (
    index           bigint NOT NULL,
    writer_sequence bigint NOT NULL,
    writer          text COLLATE "C" NOT NULL,
    hash            bytea NOT NULL,
    CONSTRAINT leaves_pkey PRIMARY KEY (index),
    CONSTRAINT leaves_event UNIQUE (writer, writer_sequence),
    CONSTRAINT leaves_index CHECK (index BETWEEN 0 AND 9007199254740990),
    CONSTRAINT leaves_writer_sequence CHECK (writer_sequence BETWEEN 1 AND 9007199254740991),
    CONSTRAINT leaves_hash CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit.leaves IS 'The leaves of the Merkle tree over audit.events, one for each sealed event. An event without a leaf is not sealed yet.';
COMMENT ON COLUMN audit.leaves.index IS 'The place of the leaf in the tree: from 0, without gaps.';
COMMENT ON COLUMN audit.leaves.writer_sequence IS 'The number of the event within its writer.';
COMMENT ON COLUMN audit.leaves.writer IS 'The writer of the event.';
COMMENT ON COLUMN audit.leaves.hash IS 'sha256(''\x00''::bytea || audit.record(e)) of the event, as it was when it was sealed.';

CREATE TABLE audit.checkpoints (
    number   bigint NOT NULL,
    size     bigint NOT NULL,
    time     timestamptz NOT NULL,
    root     bytea NOT NULL,
    frontier bytea NOT NULL,
    note     text COLLATE "C" NOT NULL,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (number),
    CONSTRAINT checkpoints_number CHECK (number BETWEEN 1 AND 9007199254740991),
    CONSTRAINT checkpoints_size CHECK (size BETWEEN 1 AND 9007199254740991),
    CONSTRAINT checkpoints_root CHECK (octet_length(root) = 32),
    CONSTRAINT checkpoints_frontier CHECK (octet_length(frontier) BETWEEN 32 AND 64 * 32 AND octet_length(frontier) % 32 = 0),
    CONSTRAINT checkpoints_note CHECK (octet_length(note) <= 16384)
);
CREATE INDEX checkpoints_by_size ON audit.checkpoints (size, number);
COMMENT ON TABLE audit.checkpoints IS 'Signed statements of the size and the root hash of the tree, each also published outside of the database. audit.add_checkpoint alone adds rows.';
COMMENT ON COLUMN audit.checkpoints.number IS 'The number of the checkpoint, in the order of adding. Several checkpoints may have one size.';
COMMENT ON COLUMN audit.checkpoints.size IS 'How many leaves it covers: those with an index below.';
COMMENT ON COLUMN audit.checkpoints.time IS 'When it was signed, by the clock of the signer.';
COMMENT ON COLUMN audit.checkpoints.root IS 'The root hash of the tree of these leaves.';
COMMENT ON COLUMN audit.checkpoints.frontier IS 'The roots of the complete subtrees at the right edge, the largest first, 32 bytes each: what the next checkpoint continues from. The root follows from them.';
COMMENT ON COLUMN audit.checkpoints.note IS 'The checkpoint itself, as it was signed and published: C2SP tlog-checkpoint, Ed25519. The database checks its text and not its signature.';

CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.leaves
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.leaves
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.checkpoints
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.checkpoints
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.leaves ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.leaves ENABLE ALWAYS TRIGGER refuse_row_change;
ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.checkpoints ENABLE ALWAYS TRIGGER refuse_row_change;

-- No login has INSERT on the two tables. The sealer names the events to seal; the
-- functions below compute their leaves, the tree and the text of the checkpoint,
-- so that a login cannot add a leaf of an event that is not recorded, skip one,
-- or add a checkpoint over another tree. PostgreSQL has no Ed25519: a login that
-- may seal and has no key can add a checkpoint with a bad signature, which
-- sealing, verify and every other reader report and step over.

-- +goose StatementBegin
CREATE FUNCTION audit.tree_root(frontier bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
AS $$
DECLARE
    subtrees integer := octet_length(frontier) / 32;
    root bytea := substring(frontier FROM 32 * subtrees - 31 FOR 32);
BEGIN
    FOR i IN REVERSE subtrees - 1 .. 1 LOOP
        root := sha256('\x01'::bytea || substring(frontier FROM 32 * i - 31 FOR 32) || root);
    END LOOP;
    RETURN root;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.tree_root(bytea) IS 'The root hash of the tree with this frontier (RFC 6962 section 2.1). That of no leaf is empty.';

-- +goose StatementBegin
CREATE FUNCTION audit.extend_frontier(size bigint, frontier bytea, hashes bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
    SET jit = off
AS $$
DECLARE
    begins   bigint := size; -- the index, at this level, of the first node in nodes
    nodes    bytea := hashes;
    extended bytea := '';
    count    bigint;
BEGIN
    IF size < 0 OR octet_length(hashes) % 32 <> 0 OR octet_length(frontier) <> 32 * length(replace(ltrim(size::bit(64)::text, '0'), '0', '')) THEN
        RAISE EXCEPTION 'the frontier of a tree of % leaves does not have % bytes', size, octet_length(frontier) USING ERRCODE = 'data_corrupted';
    END IF;
    -- One level of the tree after the other. The last subtree of the frontier is
    -- the smallest: it is the left sibling of the first new node of its level.
    WHILE octet_length(nodes) > 0 LOOP
        IF begins % 2 = 1 THEN
            nodes := substring(frontier FROM octet_length(frontier) - 31) || nodes;
            frontier := substring(frontier FROM 1 FOR octet_length(frontier) - 32);
        END IF;
        begins := begins / 2;
        count := octet_length(nodes) / 32;
        IF count % 2 = 1 THEN
            extended := substring(nodes FROM octet_length(nodes) - 31) || extended;
        END IF;
        -- generate_series gives the nodes in their order.
        SELECT coalesce(string_agg(sha256('\x01'::bytea || substring(nodes FROM 64 * i - 63 FOR 64)), ''::bytea), '')
            INTO nodes FROM generate_series(1, (count / 2)::integer) AS i;
    END LOOP;
    RETURN frontier || extended;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.extend_frontier(bigint, bytea, bytea) IS 'The frontier of a tree of so many leaves after leaves with these hashes, 32 bytes each, are added to it (RFC 6962 section 2.1).';

-- +goose StatementBegin
CREATE FUNCTION audit.sealed_tree(OUT size bigint, OUT frontier bytea) RETURNS record
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET standard_conforming_strings = on
AS $$
#variable_conflict use_variable
DECLARE
    signed  bigint := 0;
    added   bytea;
    present bigint;
    c       record;
BEGIN
    size := 1 + coalesce((SELECT max(l.index) FROM audit.leaves l), -1);
    frontier := '';
    FOR c IN SELECT k.size, k.root, k.frontier FROM audit.checkpoints k WHERE k.size <= size ORDER BY k.number DESC LOOP
        IF octet_length(c.frontier) = 32 * length(replace(ltrim(c.size::bit(64)::text, '0'), '0', '')) AND audit.tree_root(c.frontier) = c.root THEN
            signed := c.size;
            frontier := c.frontier;
            EXIT;
        END IF;
    END LOOP;
    IF signed < size THEN -- the owner has changed something
        SELECT count(*), string_agg(l.hash, ''::bytea ORDER BY l.index) INTO present, added FROM audit.leaves l WHERE l.index >= signed;
        IF present <> size - signed THEN
            RAISE EXCEPTION 'of the leaves % to % there are %: run sallyport audit verify', signed, size - 1, present USING ERRCODE = 'data_corrupted';
        END IF;
        frontier := audit.extend_frontier(signed, frontier, added);
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.sealed_tree() IS 'The tree of the leaves that there are: how many, and its frontier, from the newest checkpoint whose frontier has its root.';

-- +goose StatementBegin
CREATE FUNCTION audit.next_number(writer text, after bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN after + 1;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.next_number(text, bigint) IS 'The number of the event of a writer that is sealed next after the event with that number.';

-- +goose StatementBegin
CREATE FUNCTION audit.check_checkpoint_time(at timestamptz) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF at IS NULL OR at NOT BETWEEN clock_timestamp() - interval '1 day' AND clock_timestamp() + interval '1 day' THEN
        RAISE EXCEPTION 'add checkpoint: its time % is more than a day from the time % of the database: set the clock that is wrong', at, clock_timestamp()
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.check_checkpoint_time(timestamptz) IS 'Refuses a time of signing that is more than a day from the clock of the database: retention counts from it.';

-- +goose StatementBegin
CREATE FUNCTION audit.add_checkpoint(writers text[], first_numbers bigint[], last_numbers bigint[], note text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET standard_conforming_strings = on
    SET enable_seqscan = off
    SET jit = off
AS $$
#variable_conflict use_variable
DECLARE
    ranges   integer := coalesce(cardinality(writers), 0);
    events   bigint := 0;
    before   bigint[] := '{}'; -- how many events are in the ranges before each
    named    record;
    size     bigint;
    frontier bytea;
    root     bytea;
    hashes   bytea;
    added    bigint;
    at       timestamptz;
    expected text;
    number   bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'add checkpoint: the transaction is %: use READ COMMITTED', upper(current_setting('transaction_isolation'))
            USING ERRCODE = 'invalid_transaction_state';
    END IF;
    IF ranges <> coalesce(cardinality(first_numbers), 0) OR ranges <> coalesce(cardinality(last_numbers), 0) OR ranges > 100000
       OR coalesce(array_ndims(writers), 1) <> 1 OR coalesce(array_ndims(first_numbers), 1) <> 1 OR coalesce(array_ndims(last_numbers), 1) <> 1
       OR array_position(writers, NULL) IS NOT NULL OR array_position(first_numbers, NULL) IS NOT NULL OR array_position(last_numbers, NULL) IS NOT NULL
       OR note IS NULL OR octet_length(note) > 16384
    THEN
        RAISE EXCEPTION 'add checkpoint: it takes at most 100000 ranges, each with a writer, a first and a last number, and a note of at most 16384 bytes'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF NOT audit.acquire_lock('seal', false) THEN
        RAISE EXCEPTION 'add checkpoint: another session is sealing: call audit.try_seal_lock() first' USING ERRCODE = 'lock_not_available';
    END IF;
    IF current_setting('synchronous_commit') <> 'remote_apply' THEN
        PERFORM set_config('synchronous_commit', 'on', true);
    END IF;

    -- One pass over the ranges: a login that records makes any number of writers, and a
    -- value that grows with each range would be copied as often.
    FOR named IN
        SELECT q.place, q.writer, q.first, q.last, coalesce(q.previous, (SELECT max(l.writer_sequence) FROM audit.leaves l WHERE l.writer = q.writer), 0) AS after
        FROM (
            SELECT u.place, u.writer COLLATE "C" AS writer, u.first, u.last, lag(u.last) OVER (PARTITION BY u.writer COLLATE "C" ORDER BY u.place) AS previous
            FROM unnest(writers, first_numbers, last_numbers) WITH ORDINALITY AS u (writer, first, last, place)
        ) q ORDER BY q.place
    LOOP
        IF named.first <> audit.next_number(named.writer, named.after) OR named.last < named.first OR named.last > 9007199254740991 THEN
            RAISE EXCEPTION 'add checkpoint: events % to % of writer % do not follow its last sealed event %', named.first, named.last, named.writer, named.after
                USING ERRCODE = 'object_not_in_prerequisite_state';
        END IF;
        before[named.place] := events;
        events := events + (named.last - named.first + 1);
        IF events > 100000 THEN
            RAISE EXCEPTION 'add checkpoint: more than 100000 events: seal fewer at once' USING ERRCODE = 'invalid_parameter_value';
        END IF;
    END LOOP;

    SELECT t.size, t.frontier INTO size, frontier FROM audit.sealed_tree() t;
    WITH leaves AS (
        INSERT INTO audit.leaves (index, writer_sequence, writer, hash)
        SELECT size + r.before + e.writer_sequence - r.first, e.writer_sequence, r.writer, sha256('\x00'::bytea || audit.record(e))
        FROM unnest(writers, first_numbers, last_numbers, before) AS r (writer, first, last, before)
        JOIN audit.events e ON e.writer = r.writer COLLATE "C" AND e.writer_sequence BETWEEN r.first AND r.last
        ORDER BY 1 -- in another order the pages of the indexes stay half empty
        RETURNING index, hash
    )
    SELECT count(*), coalesce(string_agg(l.hash, ''::bytea ORDER BY l.index), '') INTO added, hashes FROM leaves l;
    -- With the unique constraint leaves_event: each number exactly once.
    IF added <> events THEN
        RAISE EXCEPTION 'add checkpoint: of the % events named % are recorded', events, added USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    frontier := audit.extend_frontier(size, frontier, hashes);
    size := size + added;
    IF size = 0 THEN
        RAISE EXCEPTION 'add checkpoint: nothing is sealed: name an event' USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    root := audit.tree_root(frontier);

    -- C2SP tlog-checkpoint and signed-note.
    IF note !~ '^[^\n]+\n[0-9]+\n[A-Za-z0-9+/]{43}=\ntime [0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z\n\n(— [^ \n]+ [A-Za-z0-9+/]{91,}={0,2}\n)+$' THEN
        RAISE EXCEPTION 'add checkpoint: the note is not a signed checkpoint with a time' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    at := substr(split_part(note, E'\n', 4), 6)::timestamptz;
    PERFORM audit.check_checkpoint_time(at);
    expected := split_part(note, E'\n', 1) || E'\n' || size || E'\n' || encode(root, 'base64') || E'\ntime ' || to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"Z"') || E'\n\n';
    IF NOT starts_with(note, expected) THEN
        RAISE EXCEPTION 'add checkpoint: the note does not match the tree: size %, root %', size, encode(root, 'base64') USING ERRCODE = 'check_violation';
    END IF;
    number := 1 + coalesce((SELECT max(c.number) FROM audit.checkpoints c), 0);
    INSERT INTO audit.checkpoints (number, size, time, root, frontier, note) VALUES (number, size, at, root, frontier, note);
    RETURN number;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.add_checkpoint(text[], bigint[], bigint[], text) IS 'Seals recorded events: for each range, in order, the events of a writer from the first number to the last, which follow its last sealed one. Computes their leaves and the tree, and adds the checkpoint if its signed note has the same. Without ranges it adds another checkpoint of the present size. Returns the number of the checkpoint.';

REVOKE ALL ON audit.leaves, audit.checkpoints FROM PUBLIC;
GRANT USAGE ON SCHEMA audit TO sallyport_sealer;
GRANT SELECT ON audit.leaves, audit.checkpoints TO sallyport_writer, sallyport_sealer, sallyport_auditor;
GRANT SELECT ON audit.events TO sallyport_sealer;
GRANT EXECUTE ON FUNCTION audit.record(audit.events) TO sallyport_sealer;
REVOKE ALL ON FUNCTION audit.tree_root(bytea), audit.extend_frontier(bigint, bytea, bytea), audit.sealed_tree(), audit.next_number(text, bigint),
    audit.check_checkpoint_time(timestamptz), audit.add_checkpoint(text[], bigint[], bigint[], text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.add_checkpoint(text[], bigint[], bigint[], text) TO sallyport_sealer;
-- They read nothing: an auditor can compute the root in plain SQL.
GRANT EXECUTE ON FUNCTION audit.tree_root(bytea), audit.extend_frontier(bigint, bytea, bytea) TO sallyport_sealer, sallyport_auditor;

-- +goose Down

-- What was signed is evidence, and is not for a migration to destroy.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.leaves) OR EXISTS (SELECT FROM audit.checkpoints) THEN
        RAISE EXCEPTION 'the audit log is sealed: its leaves and checkpoints are not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP FUNCTION audit.add_checkpoint(text[], bigint[], bigint[], text);
DROP FUNCTION audit.check_checkpoint_time(timestamptz);
DROP FUNCTION audit.next_number(text, bigint);
DROP FUNCTION audit.sealed_tree();
DROP FUNCTION audit.extend_frontier(bigint, bytea, bytea);
DROP FUNCTION audit.tree_root(bytea);
DROP TABLE audit.checkpoints;
DROP TABLE audit.leaves;
