-- +goose Up

-- What a decision has in columns, the other events have in attributes. Here they
-- are read once, for everybody.
CREATE VIEW audit.operations AS
SELECT e.time, e.kind, e.action, e.message, e.revision, e.commit, e.repository, e.workspace_uuid, e.repository_uuid, e.step_uuid,
       convert_from(e.record, 'UTF8')::json -> 'attributes' AS attributes,
       e.writer, e.writer_sequence
FROM audit.events e
WHERE e.kind NOT IN ('decision', 'tunnel_closed', 'request_closed');
COMMENT ON VIEW audit.operations IS 'Everything that is neither a decision nor the end of one: policies, keys, writers, operators'' deeds, exports, retention.';

-- Who may do what to the log, by whatever way he comes to it: privileges of his
-- own, of roles that he is a member of, of PUBLIC, and those of a superuser.
CREATE VIEW audit.access AS
SELECT r.rolname::text COLLATE "C" AS role, r.rolcanlogin AS may_log_in, r.rolsuper AS superuser,
       bool_or(has_table_privilege(r.oid, c.oid, 'SELECT')) AS may_read,
       bool_or(has_table_privilege(r.oid, c.oid, 'INSERT')) AS may_add,
       bool_or(has_table_privilege(r.oid, c.oid, 'UPDATE') OR has_table_privilege(r.oid, c.oid, 'DELETE') OR has_table_privilege(r.oid, c.oid, 'TRUNCATE')) AS may_change,
       bool_or(pg_has_role(r.oid, c.relowner, 'MEMBER')) AS may_alter
FROM pg_catalog.pg_roles r
CROSS JOIN pg_catalog.pg_class c
WHERE c.relnamespace = 'audit'::regnamespace AND c.relkind IN ('r', 'p') AND r.rolname !~ '^pg_'
GROUP BY r.oid, r.rolname, r.rolcanlogin, r.rolsuper
HAVING bool_or(has_table_privilege(r.oid, c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE'));
COMMENT ON VIEW audit.access IS 'Every role that may do anything to the tables of the log, and what: its own privileges and those that it has through others.';

-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT a.attname, pg_catalog.col_description('audit.events'::regclass, e.attnum) AS said
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_attribute e ON e.attrelid = 'audit.events'::regclass AND e.attname = a.attname AND e.attnum > 0
        WHERE a.attrelid = 'audit.operations'::regclass AND a.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN audit.operations.%I IS %L', c.attname, c.said);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN audit.operations.action IS 'What an operator did.';
COMMENT ON COLUMN audit.operations.attributes IS 'What else is known of it, as JSON: names, and values that are text.';
COMMENT ON COLUMN audit.access.role IS 'The role. PostgreSQL''s own roles are not listed; who is a member of them is.';
COMMENT ON COLUMN audit.access.may_log_in IS 'Whether somebody can log in as this role. Who is a member of it may act as it all the same.';
COMMENT ON COLUMN audit.access.superuser IS 'Whether it may do anything at all: nothing in the database stops it.';
COMMENT ON COLUMN audit.access.may_read IS 'Whether it may read a table of the log.';
COMMENT ON COLUMN audit.access.may_add IS 'Whether it may add rows to one.';
COMMENT ON COLUMN audit.access.may_change IS 'Whether it has the privilege to change rows of one, or to take them away. The triggers refuse that too, as long as they are there.';
COMMENT ON COLUMN audit.access.may_alter IS 'Whether it may act as the owner of one: drop it, or disable its triggers.';
REVOKE ALL ON audit.operations, audit.access FROM PUBLIC;
GRANT SELECT ON audit.operations, audit.access TO sallyport_writer, sallyport_auditor;

-- +goose Down
DROP VIEW audit.access;
DROP VIEW audit.operations;
