-- +goose Up

-- What a decision has in columns, the other events have in attributes. Here they
-- are read once, for everybody.
CREATE VIEW audit.operations AS
SELECT e.time, e.kind, e.action, e.message, e.revision, e.commit, e.repository, e.workspace_uuid, e.repository_uuid, e.step_uuid,
       convert_from(e.record, 'UTF8')::json -> 'attributes' AS attributes,
       e.writer, e.writer_sequence
FROM audit.events e
WHERE e.kind NOT IN ('decision', 'tunnel_closed', 'request_closed');
COMMENT ON VIEW audit.operations IS 'Every event that is neither a decision about a request nor the end of one: policies, keys, writers, operators'' operations, exports, retention, ages of secrets, and the events webhook_* about deliveries, whose decisions are in audit.webhook_deliveries.';

-- Every role that can reach the log, and by which path. A pack and the attestation
-- run this text themselves, not the view: its owner could replace it.
CREATE VIEW audit.access AS
WITH RECURSIVE
roles AS (
    SELECT r.oid, r.rolname::text COLLATE "C" AS name, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcanlogin, r.rolreplication, r.rolbypassrls,
           current_setting('server_version_num')::integer < 160000 AS before_16
    FROM pg_catalog.pg_roles r
),
-- Who can come to act as whom in one step. PostgreSQL 16 has INHERIT and SET as
-- options of the membership, and may have several memberships of one pair.
steps AS (
    SELECT m.member, m.roleid AS target,
           bool_or(coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, r.rolinherit)) AS inherits,
           bool_or(coalesce((to_jsonb(m) ->> 'set_option')::boolean, true)) AS sets,
           bool_or(m.admin_option) AS administers
    FROM pg_catalog.pg_auth_members m JOIN roles r ON r.oid = m.member
    GROUP BY m.member, m.roleid
    UNION ALL
    SELECT d.datdba, r.oid, true, true, false
    FROM pg_catalog.pg_database d JOIN roles r ON r.name = 'pg_database_owner' WHERE d.datname = current_database()
),
-- Attributes of a role (superuser, CREATEROLE) need SET ROLE at every step;
-- privileges and ownership pass by INHERIT too.
reach (attributes, subject, target) AS (
    SELECT a, r.oid, r.oid FROM roles r CROSS JOIN (VALUES (false), (true)) AS both_kinds (a)
    UNION
    SELECT c.attributes, c.subject, s.target
    FROM reach c JOIN steps s ON s.member = c.target AND (s.sets OR s.administers OR s.inherits AND NOT c.attributes)
),
-- The first step of one path, for each pair, so that the number of paths does not
-- count: a cluster with many roles has very many.
first_steps AS (
    SELECT DISTINCT ON (c.attributes, s.member, c.target) c.attributes, s.member, c.target, s.target AS next,
           CASE WHEN s.inherits OR s.sets OR NOT s.administers THEN format('member of %s', r.name) ELSE format('may grant itself %s', r.name) END
           || CASE WHEN r.name = 'pg_database_owner' THEN ' (owner of the database)' WHEN s.inherits THEN '' WHEN s.sets THEN ' (NOINHERIT: by SET ROLE)' ELSE '' END
           || CASE WHEN s.administers THEN ' (ADMIN OPTION)' ELSE '' END AS step
    FROM steps s
    JOIN reach c ON c.subject = s.target
    JOIN roles r ON r.oid = s.target
    WHERE s.sets OR s.administers OR s.inherits AND NOT c.attributes
    ORDER BY c.attributes, s.member, c.target, s.target <> c.target, r.name
),
paths (attributes, subject, target, at, path) AS (
    SELECT c.attributes, c.subject, c.target, c.subject, ''::text COLLATE "C" FROM reach c
    UNION ALL
    SELECT p.attributes, p.subject, p.target, f.next, (p.path || f.step || ' → ') COLLATE "C"
    FROM paths p JOIN first_steps f ON f.attributes = p.attributes AND f.member = p.at AND f.target = p.target
    WHERE p.at <> p.target
),
schemas AS (
    SELECT n.oid, n.nspname::text COLLATE "C" AS name, n.nspowner, n.nspacl FROM pg_catalog.pg_namespace n WHERE n.nspname IN ('audit', 'identity', 'sallyport', 'webhook')
),
-- Partitions are one object: months come and go.
relations AS (
    SELECT c.oid, c.relowner, c.relacl, c.relkind,
           s.name || '.' || CASE WHEN c.relispartition THEN regexp_replace(c.relname::text, '_[0-9]{4}_[0-9]{2}$', '_*') ELSE c.relname::text END AS name
    FROM pg_catalog.pg_class c JOIN schemas s ON s.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
),
functions AS (
    SELECT p.oid, p.proowner, p.proacl, p.prosecdef, s.name || '.' || p.proname::text AS name
    FROM pg_catalog.pg_proc p JOIN schemas s ON s.oid = p.pronamespace
),
-- Views, rules and children in other schemas that lead to the relations, by way of
-- others too. A view and a rule have their owner's rights; a materialized view has a copy,
-- and a child has rows of its own, which their owner has too.
uses (oid, used, copies) AS MATERIALIZED (
    SELECT DISTINCT c.oid, d.refobjid, c.relkind = 'm'
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_rewrite w ON w.oid = d.objid AND w.ev_class <> d.refobjid
    JOIN pg_catalog.pg_class c ON c.oid = w.ev_class
    WHERE d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
      AND c.relnamespace NOT IN (SELECT s.oid FROM schemas s)
      AND (c.relkind = 'm' OR has_any_column_privilege(c.relowner, d.refobjid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(c.relowner, d.refobjid, 'DELETE, TRUNCATE'))
    UNION ALL
    SELECT i.inhrelid, i.inhparent, true
    FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
    WHERE c.relkind NOT IN ('i', 'I') AND c.relnamespace NOT IN (SELECT s.oid FROM schemas s)
),
leads (oid, name) AS (
    SELECT u.oid, r.name FROM uses u JOIN relations r ON r.oid = u.used
    UNION
    SELECT u.oid, l.name FROM leads l JOIN uses u ON u.used = l.oid
),
outside AS MATERIALIZED (
    SELECT c.oid, c.relowner, c.relacl, n.nspname::text || '.' || c.relname::text AS name, l.name AS base,
           EXISTS (SELECT FROM pg_catalog.pg_rewrite w WHERE w.ev_class = c.oid AND w.ev_type <> '1') AS has_rules,
           EXISTS (SELECT FROM uses u WHERE u.oid = c.oid AND u.copies) AS copies, c.relkind = 'v' AS is_view
    FROM leads l JOIN pg_catalog.pg_class c ON c.oid = l.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
),
-- Functions of other schemas that act with their owner's rights, and who can have them
-- do it: by EXECUTE, or by a change that fires a trigger, which asks for no EXECUTE.
definers AS (
    SELECT p.oid, p.proowner AS owner, p.proacl, format('%s.%s(%s), which acts as %s', n.nspname, p.proname, oidvectortypes(p.proargtypes), o.name) AS name
    FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN roles o ON o.oid = p.proowner
    WHERE p.prosecdef AND NOT EXISTS (SELECT FROM schemas s WHERE s.oid = p.pronamespace)
),
callers (grantee, owner, reason) AS (
    SELECT a.grantee, d.owner, 'may execute ' || d.name
    FROM definers d CROSS JOIN LATERAL aclexplode(coalesce(d.proacl, acldefault('f', d.owner))) a
    WHERE a.grantee <> d.owner
    UNION
    SELECT a.grantee, d.owner, format('%s on %s.%s, whose trigger %s executes %s', a.privilege_type, n.nspname, c.relname, t.tgname, d.name)
    FROM definers d
    JOIN pg_catalog.pg_trigger t ON t.tgfoid = d.oid AND t.tgenabled <> 'D'
    JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    CROSS JOIN LATERAL (
        SELECT x.grantee, x.privilege_type FROM aclexplode(coalesce(c.relacl, acldefault('r', c.relowner))) x
        UNION
        SELECT x.grantee, x.privilege_type FROM pg_catalog.pg_attribute b CROSS JOIN LATERAL aclexplode(b.attacl) x WHERE b.attrelid = c.oid
    ) a
    WHERE a.grantee <> d.owner AND a.privilege_type IN ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
),
-- As whom one can come to act by a function, and by the functions that its owner can call.
acting (grantee, owner, reason) AS (
    SELECT c.grantee, c.owner, c.reason FROM callers c
    UNION
    SELECT a.grantee, c.owner, a.reason
    FROM acting a JOIN reach m ON m.subject = a.owner AND NOT m.attributes JOIN callers c ON c.grantee = m.target
),
meanings (privilege, capability) AS (
    VALUES ('SELECT', 'read'), ('INSERT', 'add'), ('UPDATE', 'change'), ('DELETE', 'change'), ('TRUNCATE', 'change'),
           ('TRIGGER', 'alter'), ('REFERENCES', 'refer'), ('MAINTAIN', 'block'), ('CREATE', 'create'), ('EXECUTE', 'call')
),
predefined (name, capability, reason) AS (
    VALUES ('pg_read_all_data', 'read', 'reads every table'),
           ('pg_write_all_data', 'change', 'changes every table'),
           ('pg_execute_server_program', 'become superuser', 'runs programs as the server''s user'),
           ('pg_write_server_files', 'become superuser', 'writes files as the server''s user'),
           ('pg_read_server_files', 'read', 'reads the server''s files'),
           ('pg_signal_backend', 'interrupt', 'ends sessions'),
           ('pg_maintain', 'block', 'locks every table'),
           ('pg_checkpoint', 'interrupt', 'makes the server write a checkpoint'),
           ('pg_create_subscription', 'create', 'creates subscriptions, which write to tables'),
           ('pg_stat_scan_tables', 'block', 'locks tables against changes of their form'),
           ('pg_read_all_stats', 'observe', 'reads the queries of other sessions'),
           ('pg_read_all_settings', 'observe', 'reads every setting')
),
-- What a role can do by itself. A row of PUBLIC has the grantee 0.
own (grantee, attributes, capability, reason, object) AS (
    SELECT r.oid, true, 'superuser', 'superuser', NULL FROM roles r WHERE r.rolsuper
    UNION ALL
    SELECT r.oid, true, CASE WHEN r.before_16 THEN 'become superuser' ELSE 'create roles' END,
           CASE WHEN r.before_16 THEN 'CREATEROLE: grants itself every role but a superuser''s, the owner of the log and pg_execute_server_program included'
                ELSE 'CREATEROLE' END, NULL
    FROM roles r WHERE r.rolcreaterole AND NOT r.rolsuper
    UNION ALL
    SELECT r.oid, true, 'read', 'REPLICATION: copies the whole server', NULL FROM roles r WHERE r.rolreplication AND NOT r.rolsuper
    UNION ALL
    SELECT r.oid, true, 'bypass row security', 'BYPASSRLS', NULL FROM roles r WHERE r.rolbypassrls AND NOT r.rolsuper
    UNION ALL
    SELECT r.oid, false, p.capability, p.name || ': ' || p.reason, NULL FROM predefined p JOIN roles r ON r.name = p.name
    UNION ALL
    SELECT d.datdba, false, 'drop', 'owner of the database', NULL FROM pg_catalog.pg_database d WHERE d.datname = current_database()
    UNION ALL
    SELECT a.grantee, false, 'create', a.privilege_type || ' on the database' || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END, NULL
    FROM pg_catalog.pg_database d CROSS JOIN LATERAL aclexplode(d.datacl) a
    WHERE d.datname = current_database() AND a.privilege_type = 'CREATE' AND a.grantee <> d.datdba
    UNION ALL
    SELECT s.nspowner, false, 'alter', 'owner of schema', s.name FROM schemas s
    UNION ALL
    SELECT r.relowner, false, 'alter', 'owner of', r.name FROM relations r
    UNION ALL
    SELECT f.proowner, false, 'alter', 'owner of', f.name || '()' FROM functions f
    UNION ALL
    SELECT a.grantee, false, m.capability, a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END || ' on schema', s.name
    FROM schemas s CROSS JOIN LATERAL aclexplode(s.nspacl) a JOIN meanings m ON m.privilege = a.privilege_type
    WHERE a.grantee <> s.nspowner
    UNION ALL
    SELECT a.grantee, false, m.capability, a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END || ' on', r.name
    FROM relations r CROSS JOIN LATERAL aclexplode(r.relacl) a JOIN meanings m ON m.privilege = a.privilege_type
    WHERE a.grantee <> r.relowner
    UNION ALL
    SELECT a.grantee, false, m.capability, a.privilege_type || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END || ' on columns of', r.name
    FROM relations r JOIN pg_catalog.pg_attribute c ON c.attrelid = r.oid AND c.attacl IS NOT NULL
    CROSS JOIN LATERAL aclexplode(c.attacl) a JOIN meanings m ON m.privilege = a.privilege_type
    WHERE a.grantee <> r.relowner
    UNION ALL
    SELECT a.grantee, false, 'call', 'EXECUTE, with its owner''s rights, on', f.name || '()'
    FROM functions f CROSS JOIN LATERAL aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) a
    WHERE f.prosecdef AND a.grantee <> f.proowner
    UNION ALL
    SELECT a.grantee, false, CASE WHEN o.has_rules AND a.privilege_type <> 'SELECT' THEN 'change' ELSE m.capability END,
           format('%s on %s, which leads to', a.privilege_type || CASE WHEN a.is_grantable AND a.grantee <> o.relowner THEN ' WITH GRANT OPTION' ELSE '' END, o.name), o.base
    FROM outside o CROSS JOIN LATERAL (
        SELECT x.* FROM aclexplode(coalesce(o.relacl, acldefault('r', o.relowner))) x
        UNION
        SELECT x.* FROM pg_catalog.pg_attribute b CROSS JOIN LATERAL aclexplode(b.attacl) x WHERE b.attrelid = o.oid
    ) a JOIN meanings m ON m.privilege = a.privilege_type
    WHERE a.privilege_type IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
      AND (a.grantee <> o.relowner OR o.copies) AND (o.is_view OR o.copies OR a.privilege_type <> 'SELECT')
),
-- What a role can do by itself, and by functions as their owners.
powers (grantee, attributes, capability, reason, object) AS (
    SELECT o.grantee, o.attributes, o.capability, o.reason, o.object FROM own o
    UNION ALL
    SELECT DISTINCT a.grantee, false, o.capability, a.reason, NULL
    FROM acting a JOIN reach c ON c.subject = a.owner JOIN own o ON o.grantee = c.target AND o.attributes = c.attributes
),
found AS (
    SELECT s.name AS role, s.rolcanlogin AS may_log_in, o.capability, p.path || o.reason AS path, o.object
    FROM paths p JOIN roles s ON s.oid = p.subject JOIN powers o ON o.grantee = p.target AND o.attributes = p.attributes
    -- Predefined roles have OIDs below 16384. A superuser who changes the catalog can give
    -- any role their prefix, or make one of them a login.
    WHERE p.at = p.target AND (s.oid >= 16384 OR s.rolcanlogin OR s.name !~ '^pg_')
    UNION ALL
    SELECT 'PUBLIC', true, o.capability, o.reason, o.object FROM powers o WHERE o.grantee = 0
)
SELECT g.role, g.may_log_in, g.capability,
       g.path || coalesce(' ' || array_to_string(g.objects[1:3], ', '), '')
              || CASE WHEN cardinality(g.objects) > 3 THEN ' and others' ELSE '' END AS path,
       g.objects
FROM (SELECT f.role, f.may_log_in, f.capability, f.path, array_agg(DISTINCT f.object ORDER BY f.object) FILTER (WHERE f.object IS NOT NULL) AS objects
      FROM found f GROUP BY f.role, f.may_log_in, f.capability, f.path) g;
COMMENT ON VIEW audit.access IS 'Every role that can act on the schemas audit, identity, sallyport and webhook, by every path: attributes, memberships, predefined roles, ownership, privileges on tables, columns, schemas and functions, PUBLIC, and views, rules, triggers and functions of other schemas that act with their owner''s rights.';

-- What was attested: who could reach the log, and what its schema was. A list of
-- lines is in attributes that are numbered, each with many lines.
CREATE VIEW audit.attestations AS
SELECT e.time, e.kind, e.message AS outcome, e.attributes ->> 'result' AS result,
       coalesce((SELECT array_agg(l.line ORDER BY length(t.key), t.key, l.place) FROM json_each_text(e.attributes) t CROSS JOIN LATERAL string_to_table(t.value, '; ') WITH ORDINALITY AS l (line, place)
                 WHERE t.key ~ '^changes(_[0-9]+)?$'), '{}') AS changes,
       coalesce((SELECT array_agg(l.line ORDER BY length(t.key), t.key, l.place) FROM json_each_text(e.attributes) t CROSS JOIN LATERAL string_to_table(t.value, '; ') WITH ORDINALITY AS l (line, place)
                 WHERE t.key ~ '^(access|differences)(_[0-9]+)?$'), '{}') AS lines,
       e.attributes ->> 'digest' AS digest, e.writer, e.writer_sequence
FROM (SELECT a.time, a.kind, a.message, convert_from(a.record, 'UTF8')::json -> 'attributes' AS attributes, a.writer, a.writer_sequence
      FROM audit.events a WHERE a.kind IN ('schema_attested', 'access_attested')) e;
COMMENT ON VIEW audit.attestations IS 'Each attestation of the schema and of access to the log, with the changes since the previous one.';
COMMENT ON COLUMN audit.attestations.outcome IS 'the first attestation, changed, or unchanged.';
COMMENT ON COLUMN audit.attestations.result IS 'Of the schema: as_installed, differs, or unknown where the program does not know what the schema should be. Null for access.';
COMMENT ON COLUMN audit.attestations.changes IS 'The lines added (+) and removed (-) since the previous attestation.';
COMMENT ON COLUMN audit.attestations.lines IS 'Of access: a line for each role, capability and path, and for settings of roles, extensions and foreign servers. Of the schema: each object that is not as installed.';
COMMENT ON COLUMN audit.attestations.digest IS 'The SHA-256 over all lines, or all objects of the schema, including those that did not fit the event.';

-- +goose StatementBegin
DO $$
DECLARE
    c record;
BEGIN
    FOR c IN
        SELECT a.attname, pg_catalog.col_description('audit.events'::regclass, e.attnum) AS description
        FROM pg_catalog.pg_attribute a
        JOIN pg_catalog.pg_attribute e ON e.attrelid = 'audit.events'::regclass AND e.attname = a.attname AND e.attnum > 0
        WHERE a.attrelid = 'audit.operations'::regclass AND a.attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN audit.operations.%I IS %L', c.attname, c.description);
    END LOOP;
END
$$;
-- +goose StatementEnd
COMMENT ON COLUMN audit.attestations.time IS 'When it was made.';
COMMENT ON COLUMN audit.attestations.kind IS 'schema_attested or access_attested.';
COMMENT ON COLUMN audit.attestations.writer IS 'The writer that made it.';
COMMENT ON COLUMN audit.attestations.writer_sequence IS 'The number of the event within its writer.';
COMMENT ON COLUMN audit.operations.action IS 'What an operator did.';
COMMENT ON COLUMN audit.operations.attributes IS 'What else is known of it, as JSON: names, and values that are text.';
COMMENT ON COLUMN audit.access.role IS 'The role. PUBLIC is every role. PostgreSQL''s predefined roles are not listed; their members are.';
COMMENT ON COLUMN audit.access.may_log_in IS 'Whether the role is a login. A role that is not can still be reached by its members, who have rows of their own.';
COMMENT ON COLUMN audit.access.capability IS 'superuser, become superuser, alter (drop a table, replace a function, disable a trigger), drop (the database), change (UPDATE, DELETE, TRUNCATE), add (INSERT), create (objects in a schema or the database), call (a function that acts with its owner''s rights), read, block (locks), interrupt (sessions), refer (a foreign key), create roles, bypass row security, observe.';
COMMENT ON COLUMN audit.access.path IS 'The path from the role to the object. NOINHERIT: the role has to SET ROLE first. ADMIN OPTION: it can grant the membership, to itself too.';
COMMENT ON COLUMN audit.access.objects IS 'All objects of that capability and path. Partitions are one object.';
REVOKE ALL ON audit.operations, audit.access, audit.attestations FROM PUBLIC;
GRANT SELECT ON audit.operations, audit.access, audit.attestations TO sallyport_writer, sallyport_auditor;

-- +goose Down
DROP VIEW audit.attestations;
DROP VIEW audit.access;
DROP VIEW audit.operations;
