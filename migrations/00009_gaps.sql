-- +goose Up

-- Permanently missing numbers of a writer: a failover or a lost disk lost them. A declaration is an event of the writer "database", signed with the
-- log's key; only then may later events be sealed. These rows copy the declarations for
-- the functions that seal. The event is the proof.
CREATE TABLE audit.declared_gaps (
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    declaration bigint NOT NULL,
    writer      text COLLATE "C" NOT NULL,
    CONSTRAINT declared_gaps_pkey PRIMARY KEY (writer, first, declaration),
    CONSTRAINT declared_gaps_range CHECK (first BETWEEN 1 AND last AND last < 9007199254740991)
);
COMMENT ON TABLE audit.declared_gaps IS 'Which numbers of which writer were declared missing. Rows are only ever added, by audit.declare_gap. The proof is the event of kind gap_declared.';
COMMENT ON COLUMN audit.declared_gaps.first IS 'The first missing number.';
COMMENT ON COLUMN audit.declared_gaps.last IS 'The last missing number.';
COMMENT ON COLUMN audit.declared_gaps.declaration IS 'The number of the event of kind gap_declared, of the writer "database".';
COMMENT ON COLUMN audit.declared_gaps.writer IS 'The writer whose numbers are missing.';
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE OR TRUNCATE ON audit.declared_gaps
    FOR EACH STATEMENT EXECUTE FUNCTION audit.refuse_change();
CREATE TRIGGER refuse_row_change BEFORE UPDATE OR DELETE ON audit.declared_gaps
    FOR EACH ROW EXECUTE FUNCTION audit.refuse_change();
ALTER TABLE audit.declared_gaps ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE audit.declared_gaps ENABLE ALWAYS TRIGGER refuse_row_change;

-- +goose StatementBegin
CREATE FUNCTION audit.declare_gap(writer text, first bigint, last bigint, reason text, declared_at text, key text, signature text) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET lock_timeout = '10s'
AS $$
#variable_conflict use_variable
DECLARE
    number bigint;
BEGIN
    IF writer IS NULL OR writer = '' OR audit.escape(writer, 200) <> writer OR first IS NULL OR last IS NULL OR first < 1 OR last < first OR last >= 9007199254740991
       OR reason IS NULL OR reason = '' OR audit.escape(reason, 1000) <> reason
       OR declared_at IS NULL OR declared_at !~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$'
       OR key IS NULL OR key !~ '^[!-~]+$' OR octet_length(key) > 1000 OR signature IS NULL OR signature !~ '^[A-Za-z0-9+/]{80,200}={0,2}$'
    THEN
        RAISE EXCEPTION 'declare gap: it takes a writer, the first and the last missing number, a reason (1 to 1000 bytes, no control characters), a time, and the key and signature of the log: use sallyport audit gap declare'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF writer = 'database' THEN
        RAISE EXCEPTION 'declare gap: the writer "database" numbers its events under a lock: a missing number of it is damage' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    -- Nothing is sealed meanwhile.
    PERFORM audit.acquire_lock('seal', true);
    SELECT min(e.writer_sequence) INTO number FROM audit.events e WHERE e.writer = writer COLLATE "C" AND e.writer_sequence BETWEEN first AND last;
    IF number IS NOT NULL THEN
        RAISE EXCEPTION 'declare gap: event % of writer % is recorded: name only numbers that are missing; sallyport audit gap list has them', number, writer
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    SELECT min(l.writer_sequence) INTO number FROM audit.leaves l WHERE l.writer = writer COLLATE "C" AND l.writer_sequence BETWEEN first AND last;
    IF number IS NOT NULL THEN
        RAISE EXCEPTION 'declare gap: event % of writer % was sealed: that it is missing is retention or damage, and cannot be declared', number, writer
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF EXISTS (SELECT FROM audit.declared_gaps g WHERE g.writer = writer COLLATE "C" AND g.first <= last AND g.last >= first AND (g.first <> first OR g.last <> last)) THEN
        RAISE EXCEPTION 'declare gap: part of % to % of writer % was declared already', first, last, writer USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    IF NOT EXISTS (SELECT FROM audit.events e WHERE e.writer = writer COLLATE "C" AND e.writer_sequence = last + 1)
       OR first > 1 AND NOT EXISTS (SELECT FROM audit.events e WHERE e.writer = writer COLLATE "C" AND e.writer_sequence = first - 1)
          AND NOT EXISTS (SELECT FROM audit.leaves l WHERE l.writer = writer COLLATE "C" AND l.writer_sequence = first - 1)
    THEN
        RAISE EXCEPTION 'declare gap: % to % is not a gap of writer %: a gap is all numbers between two events of the writer; sallyport audit gap list has them', first, last, writer
            USING ERRCODE = 'object_not_in_prerequisite_state';
    END IF;
    number := audit.append_event('gap_declared', 'writer', writer, 'first', first::text, 'last', last::text, 'reason', reason,
        'declared_at', declared_at, 'login', session_user::text, 'key', key, 'signature', signature);
    INSERT INTO audit.declared_gaps (first, last, declaration, writer) VALUES (first, last, number, writer);
    RETURN number;
END
$$;
-- +goose StatementEnd
COMMENT ON FUNCTION audit.declare_gap(text, bigint, bigint, text, text, text, text) IS 'Declares these numbers of a writer permanently missing. It rejects numbers that are recorded or sealed, and a range that is not a gap. Events after the gap are sealed only with a signature of the log''s key. Returns the number of the event, of the writer "database". The owner alone may call it.';

-- A missing number is stepped over once the declaration that names it is sealed.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.next_number(writer text, after bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    number  bigint := after + 1;
    through bigint;
    present bigint;
BEGIN
    LOOP
        SELECT max(g.last) INTO through FROM audit.declared_gaps g
        JOIN audit.leaves l ON l.writer = 'database' AND l.writer_sequence = g.declaration
        WHERE g.writer = writer COLLATE "C" AND number BETWEEN g.first AND g.last;
        IF through IS NULL THEN
            RETURN number;
        END IF;
        SELECT min(e.writer_sequence) INTO present FROM audit.events e WHERE e.writer = writer COLLATE "C" AND e.writer_sequence BETWEEN number AND through;
        IF present IS NOT NULL THEN
            RETURN present;
        END IF;
        number := through + 1;
    END LOOP;
END
$$;
-- +goose StatementEnd

REVOKE ALL ON audit.declared_gaps FROM PUBLIC;
GRANT SELECT ON audit.declared_gaps TO sallyport_writer, sallyport_sealer, sallyport_auditor;
REVOKE ALL ON FUNCTION audit.declare_gap(text, bigint, bigint, text, text, text, text) FROM PUBLIC;

-- +goose Down

-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.declared_gaps) THEN
        RAISE EXCEPTION 'gaps of the audit log are declared: that is not removed' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION audit.next_number(writer text, after bigint) RETURNS bigint
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN after + 1;
END
$$;
-- +goose StatementEnd
DROP FUNCTION audit.declare_gap(text, bigint, bigint, text, text, text, text);
DROP TABLE audit.declared_gaps;
