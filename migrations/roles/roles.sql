-- The roles of Sallyport. Roles belong to the whole cluster, the grant on the
-- database to this one alone. Running it again changes nothing.
DO $roles$
DECLARE
    wanted record;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('sallyport_owner',   'NOLOGIN', 'Owns the tables of Sallyport. No login uses it; migrations act as it.'),
            ('sallyport_writer',  'LOGIN',   'What sallyport serve logs in as: it may add to the audit log, read it, and keep what it knows of identities.'),
            ('sallyport_sealer',  'LOGIN',   'What sallyport serve seals as: it may add leaves and checkpoints by functions that check them, and read the audit log.'),
            ('sallyport_auditor', 'LOGIN',   'What an auditor logs in as: it may read the audit log and the history of names.')
        ) AS roles (name, login, comment)
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = wanted.name);
        BEGIN
            EXECUTE pg_catalog.format('CREATE ROLE %I %s NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS', wanted.name, wanted.login);
            EXECUTE pg_catalog.format('COMMENT ON ROLE %I IS %L', wanted.name, wanted.comment);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- another migration made it at the same moment
        END;
    END LOOP;

    -- Acting as the owner is for the login that migrates. A superuser may anyway.
    IF NOT (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_auth_members m
           JOIN pg_catalog.pg_roles o ON o.oid = m.roleid
           JOIN pg_catalog.pg_roles u ON u.oid = m.member
           WHERE o.rolname = 'sallyport_owner' AND u.rolname = current_user
             -- PostgreSQL 16 gives who creates a role its administration alone
             AND coalesce((pg_catalog.to_jsonb(m) ->> 'set_option')::boolean, true))
    THEN
        BEGIN
            EXECUTE pg_catalog.format('GRANT sallyport_owner TO %I', current_user);
        EXCEPTION WHEN unique_violation THEN
            NULL;
        END;
    END IF;

    IF NOT pg_catalog.has_database_privilege('sallyport_owner', pg_catalog.current_database(), 'CREATE') THEN
        EXECUTE pg_catalog.format('GRANT CREATE ON DATABASE %I TO sallyport_owner', pg_catalog.current_database());
    END IF;

    -- The planner overestimates what questions about a month cost, and compiles their
    -- plans: that takes seconds and saves none. A month of ends is joined in memory: on a
    -- disk it takes many times as long. An index that holds a month, a third as large as
    -- its rows, is read only where a page of an index costs about what a page of a table
    -- costs, as on a solid-state disk. Other logins of the database keep their settings.
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_db_role_setting s
                   WHERE s.setdatabase = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())
                     AND s.setrole = (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname = 'sallyport_auditor'))
    THEN
        BEGIN
            EXECUTE pg_catalog.format('ALTER ROLE sallyport_auditor IN DATABASE %I SET jit = off', pg_catalog.current_database());
            EXECUTE pg_catalog.format('ALTER ROLE sallyport_auditor IN DATABASE %I SET work_mem = %L', pg_catalog.current_database(), '64MB');
            EXECUTE pg_catalog.format('ALTER ROLE sallyport_auditor IN DATABASE %I SET random_page_cost = 1.1', pg_catalog.current_database());
        EXCEPTION WHEN insufficient_privilege THEN
            NULL; -- questions take longer
        END;
    END IF;
END
$roles$;
