-- +goose Up

-- The leaves of the log's Merkle tree (RFC 6962 section 2.1), in its order. They
-- outlive the events that retention takes away: a hash says nothing of what was
-- asked, and the tree cannot be rebuilt without it.
CREATE TABLE audit.leaves (
    index           bigint NOT NULL,
    writer_sequence bigint NOT NULL,
    writer          text COLLATE "C" NOT NULL,
    hash            bytea NOT NULL,
    CONSTRAINT leaves_pkey PRIMARY KEY (index),
    CONSTRAINT leaves_event UNIQUE (writer, writer_sequence),
    CONSTRAINT leaves_index CHECK (index >= 0),
    CONSTRAINT leaves_hash CHECK (octet_length(hash) = 32)
);
COMMENT ON TABLE audit.leaves IS 'The leaves of the Merkle tree over audit.events, one for each sealed event. An event without a leaf is not sealed yet.';
COMMENT ON COLUMN audit.leaves.index IS 'The place of the leaf in the tree: from 0, without gaps.';
COMMENT ON COLUMN audit.leaves.writer_sequence IS 'The number of the event within its writer.';
COMMENT ON COLUMN audit.leaves.writer IS 'The writer of the event.';
COMMENT ON COLUMN audit.leaves.hash IS 'sha256(''\x00''::bytea || record) of the event, as it was when it was sealed.';

CREATE TABLE audit.checkpoints (
    size    bigint NOT NULL,
    time    timestamptz NOT NULL,
    root    bytea NOT NULL,
    frontier    bytea NOT NULL,
    note    text COLLATE "C" NOT NULL,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (size),
    CONSTRAINT checkpoints_size CHECK (size > 0),
    CONSTRAINT checkpoints_root CHECK (octet_length(root) = 32),
    CONSTRAINT checkpoints_frontier CHECK (octet_length(frontier) BETWEEN 32 AND 64 * 32 AND octet_length(frontier) % 32 = 0)
);
COMMENT ON TABLE audit.checkpoints IS 'Signed statements of the size and the root hash of the tree, each also published outside of the database.';
COMMENT ON COLUMN audit.checkpoints.size IS 'How many leaves it covers: those with an index below.';
COMMENT ON COLUMN audit.checkpoints.time IS 'When it was signed, by the clock of the signer.';
COMMENT ON COLUMN audit.checkpoints.root IS 'The root hash of the tree of these leaves.';
COMMENT ON COLUMN audit.checkpoints.frontier IS 'The roots of the complete subtrees at the right edge, the largest first, 32 bytes each: what the next checkpoint goes on from. They have the root as their own.';
COMMENT ON COLUMN audit.checkpoints.note IS 'The checkpoint itself, as it was signed and published: C2SP tlog-checkpoint, Ed25519.';

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

REVOKE ALL ON audit.leaves, audit.checkpoints FROM PUBLIC;
GRANT SELECT, INSERT ON audit.leaves, audit.checkpoints TO sallyport_writer;
GRANT SELECT ON audit.leaves, audit.checkpoints TO sallyport_auditor;

-- +goose Down

-- What was signed is evidence, and is not for a migration to destroy.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM audit.leaves) OR EXISTS (SELECT FROM audit.checkpoints) THEN
        RAISE EXCEPTION 'the audit log is sealed: its leaves and checkpoints are not taken down' USING ERRCODE = 'restrict_violation';
    END IF;
END
$$;
-- +goose StatementEnd
DROP TABLE audit.checkpoints;
DROP TABLE audit.leaves;
