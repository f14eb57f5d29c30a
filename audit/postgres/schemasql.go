package postgres

// SchemaSettings make the text of a definition the same whatever the role, the
// database and the session have set.
const SchemaSettings = `SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, YMD'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL bytea_output = 'hex';
SET LOCAL quote_all_identifiers = off; SET LOCAL standard_conforming_strings = on; SET LOCAL extra_float_digits = 1; SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL jit = off`

// SchemaSQL describes every object of the schemas audit, identity, sallyport and webhook, in
// text without OIDs: its definition, owner and privileges. What belongs to a
// partition of audit.events comes with the partition's name, and has events_* in
// its place, so that a new month changes nothing. It reads the catalogs alone and
// calls no function of the schemas, which their owner could replace. Of other schemas
// it has the views and rules that lead to these, and the functions that act as an owner
// of these or as a superuser; those of extensions are in the attestation of access.
const SchemaSQL = `
WITH RECURSIVE schemas AS (
    SELECT n.oid, n.nspname::text AS name, n.nspowner, n.nspacl FROM pg_namespace n WHERE n.nspname IN ('audit', 'identity', 'sallyport', 'webhook')
),
relations AS (
    SELECT c.*, s.name AS schema, s.name || '.' || CASE WHEN p.partition THEN 'events_*' ELSE c.relname::text END AS name,
           CASE WHEN p.partition THEN c.relname::text END AS partition
    FROM pg_class c
    JOIN schemas s ON s.oid = c.relnamespace
    CROSS JOIN LATERAL (SELECT c.relispartition AND s.name = 'audit' AND c.relname ~ '^events_[0-9]{4}_[0-9]{2}$'
        AND EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = c.oid AND i.inhparent = to_regclass('audit.events')) AS partition) p
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f', 'c')
),
leads (oid) AS (
    SELECT r.oid FROM relations r
    UNION
    SELECT w.ev_class
    FROM leads l
    JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = l.oid
    JOIN pg_rewrite w ON w.oid = d.objid
),
objects (object, definition, partition) AS (
    SELECT 'schema ' || s.name, format('owner %s; privileges %s', pg_get_userbyid(s.nspowner),
               (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(coalesce(s.nspacl, acldefault('n', s.nspowner))) a)), NULL
    FROM schemas s
    UNION ALL
    SELECT CASE r.relkind WHEN 'v' THEN 'view ' WHEN 'm' THEN 'materialized view ' WHEN 'S' THEN 'sequence ' WHEN 'f' THEN 'foreign table ' WHEN 'c' THEN 'type ' ELSE 'table ' END || r.name,
           format('owner %s; privileges %s; kind %s; persistence %s; row security %s %s; replica identity %s; options %s; partitioned %s; bound %s; view %s',
               pg_get_userbyid(r.relowner),
               (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(coalesce(r.relacl, acldefault(CASE r.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", r.relowner))) a),
               r.relkind, r.relpersistence, r.relrowsecurity, r.relforcerowsecurity, r.relreplident,
               (SELECT string_agg(o, ' ' ORDER BY o COLLATE "C") FROM unnest(r.reloptions) o),
               CASE WHEN r.relkind = 'p' THEN pg_get_partkeydef(r.oid) END,
               CASE WHEN r.partition IS NULL THEN pg_get_expr(r.relpartbound, r.oid)
                    WHEN pg_get_expr(r.relpartbound, r.oid) = format('FOR VALUES FROM (%L) TO (%L)', to_timestamp(right(r.partition, 7), 'YYYY_MM')::timestamptz,
                         to_timestamp(right(r.partition, 7), 'YYYY_MM')::timestamptz + interval '1 month') THEN 'its month'
                    ELSE pg_get_expr(r.relpartbound, r.oid) END,
               CASE WHEN r.relkind IN ('v', 'm') THEN pg_get_viewdef(r.oid) END), r.partition
    FROM relations r
    UNION ALL
    SELECT 'columns of ' || r.name, string_agg(format('%s %s collation %s not null %s identity %s generated %s default %s privileges %s', a.attname, format_type(a.atttypid, a.atttypmod),
               (SELECT l.collname FROM pg_collation l WHERE l.oid = a.attcollation), a.attnotnull, a.attidentity, a.attgenerated, pg_get_expr(d.adbin, d.adrelid),
               (SELECT string_agg(x::text, ' ' ORDER BY x::text COLLATE "C") FROM unnest(a.attacl) x)), E'\n' ORDER BY a.attnum), r.partition
    FROM relations r
    JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    GROUP BY r.oid, r.name, r.partition
    UNION ALL
    SELECT 'constraint ' || r.name || CASE WHEN r.partition IS NULL THEN '.' || o.conname::text ELSE ': ' || pg_get_constraintdef(o.oid) END,
           format('%s; validated %s', pg_get_constraintdef(o.oid), o.convalidated), r.partition
    FROM pg_constraint o JOIN relations r ON r.oid = o.conrelid
    UNION ALL
    SELECT 'index ' || r.name || CASE WHEN r.partition IS NULL THEN '.' || i.relname::text ELSE ': ' || d.definition END,
           format('%s; valid %s; owner %s', d.definition, x.indisvalid, pg_get_userbyid(i.relowner)), r.partition
    FROM pg_index x JOIN relations r ON r.oid = x.indrelid JOIN pg_class i ON i.oid = x.indexrelid
    CROSS JOIN LATERAL (SELECT regexp_replace(pg_get_indexdef(x.indexrelid), '^(CREATE (UNIQUE )?INDEX) .* ON (ONLY )?[^ ]+ USING', '\1 USING') AS definition) d
    UNION ALL
    SELECT 'trigger ' || r.name || '.' || t.tgname::text,
           format('%s; %s', pg_get_triggerdef(t.oid), CASE t.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'D' THEN 'DISABLED' WHEN 'R' THEN 'REPLICA' ELSE 'ORIGIN' END), r.partition
    FROM pg_trigger t JOIN relations r ON r.oid = t.tgrelid
    WHERE NOT t.tgisinternal OR t.tgparentid <> 0 AND t.tgconstraint = 0
    UNION ALL
    SELECT 'rule ' || r.name || '.' || w.rulename::text, format('%s; enabled %s', pg_get_ruledef(w.oid), w.ev_enabled), r.partition
    FROM pg_rewrite w JOIN relations r ON r.oid = w.ev_class
    WHERE w.rulename <> '_RETURN' OR w.ev_enabled <> 'O'
    UNION ALL
    SELECT 'policy ' || r.name || '.' || p.polname::text, format('%s permissive %s for %s using %s check %s', p.polcmd, p.polpermissive,
               (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(o)::text END, ' ' ORDER BY pg_get_userbyid(o)::text) FROM unnest(p.polroles) o),
               pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)), r.partition
    FROM pg_policy p JOIN relations r ON r.oid = p.polrelid
    UNION ALL
    SELECT 'function ' || s.name || '.' || f.proname::text || '(' || pg_get_function_identity_arguments(f.oid) || ')',
           format('owner %s; privileges %s; kind %s; language %s; security definer %s; volatility %s; strict %s; leakproof %s; parallel %s; arguments %s; result %s; settings %s; aggregate %s; body %s %s %s',
               pg_get_userbyid(f.proowner),
               (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(coalesce(f.proacl, acldefault('f', f.proowner))) a),
               f.prokind, (SELECT l.lanname FROM pg_language l WHERE l.oid = f.prolang), f.prosecdef, f.provolatile, f.proisstrict, f.proleakproof, f.proparallel,
               pg_get_function_arguments(f.oid), pg_get_function_result(f.oid), array_to_string(f.proconfig, ', '),
               (SELECT format('%s %s %s %s', g.aggtransfn, g.aggfinalfn, g.aggtranstype::regtype, g.agginitval) FROM pg_aggregate g WHERE g.aggfnoid = f.oid),
               f.prosrc, f.probin, pg_get_function_sqlbody(f.oid)), NULL
    FROM pg_proc f JOIN schemas s ON s.oid = f.pronamespace
    UNION ALL
    SELECT 'type ' || s.name || '.' || t.typname::text, format('owner %s; kind %s; of %s', pg_get_userbyid(t.typowner), t.typtype, format_type(t.typbasetype, t.typtypmod)), NULL
    FROM pg_type t JOIN schemas s ON s.oid = t.typnamespace WHERE t.typrelid = 0 AND t.typcategory <> 'A'
    UNION ALL
    SELECT 'operator ' || s.name || '.' || o.oprname::text || '(' || format_type(o.oprleft, NULL) || ', ' || format_type(o.oprright, NULL) || ')', o.oprcode::text, NULL
    FROM pg_operator o JOIN schemas s ON s.oid = o.oprnamespace
    UNION ALL
    SELECT format('default privileges of %s in schema %s for kind %s', pg_get_userbyid(d.defaclrole), coalesce(s.name, '(every)'), d.defaclobjtype),
           (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(d.defaclacl) a), NULL
    FROM pg_default_acl d LEFT JOIN schemas s ON s.oid = d.defaclnamespace
    WHERE s.oid IS NOT NULL OR d.defaclnamespace = 0 AND pg_get_userbyid(d.defaclrole) = 'sallyport_owner'
    UNION ALL
    SELECT 'event trigger ' || e.evtname::text, format('owner %s; on %s; tags %s; enabled %s; function %s', pg_get_userbyid(e.evtowner), e.evtevent,
               array_to_string(e.evttags, ' '), e.evtenabled, e.evtfoid::regprocedure), NULL
    FROM pg_event_trigger e
    UNION ALL
    SELECT format('outside %s %s.%s', CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END, n.nspname, c.relname),
           format('owner %s; privileges %s; options %s; rules %s', pg_get_userbyid(c.relowner),
               (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(coalesce(c.relacl, acldefault('r', c.relowner))) a),
               (SELECT string_agg(o, ' ' ORDER BY o COLLATE "C") FROM unnest(c.reloptions) o),
               (SELECT string_agg(format('%s enabled %s', pg_get_ruledef(w.oid), w.ev_enabled), E'\n' ORDER BY w.rulename COLLATE "C") FROM pg_rewrite w WHERE w.ev_class = c.oid)), NULL
    FROM leads l JOIN pg_class c ON c.oid = l.oid JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE NOT EXISTS (SELECT FROM schemas s WHERE s.oid = c.relnamespace)
    UNION ALL
    SELECT format('outside function %s.%s(%s)', n.nspname, f.proname, oidvectortypes(f.proargtypes)),
           format('owner %s; privileges %s; language %s; settings %s; body %s %s %s', pg_get_userbyid(f.proowner),
               (SELECT string_agg(a::text, ' ' ORDER BY a::text COLLATE "C") FROM unnest(coalesce(f.proacl, acldefault('f', f.proowner))) a),
               (SELECT l.lanname FROM pg_language l WHERE l.oid = f.prolang), array_to_string(f.proconfig, ', '), f.prosrc, f.probin, pg_get_function_sqlbody(f.oid)), NULL
    FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
    WHERE f.prosecdef AND NOT EXISTS (SELECT FROM schemas s WHERE s.oid = f.pronamespace)
      AND EXISTS (SELECT FROM schemas s WHERE pg_has_role(f.proowner, s.nspowner, 'MEMBER'))
      AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = f.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'child ' || i.inhrelid::regclass || ' of ' || p.name, 'inheritance', NULL
    FROM pg_inherits i JOIN relations p ON p.oid = i.inhparent LEFT JOIN relations c ON c.oid = i.inhrelid
    WHERE c.partition IS NULL
)
SELECT o.object, replace(coalesce(o.definition, ''), coalesce(o.partition, ''), CASE WHEN o.partition IS NULL THEN '' ELSE 'events_*' END), coalesce(o.partition, '')
FROM objects o
ORDER BY o.object COLLATE "C", o.partition COLLATE "C"`

// AccessLinesSQL has a line for each way to the log, and for what else in the
// database decides who can do what: settings of roles, extensions and servers that
// lead to other databases, publications and subscriptions.
func AccessLinesSQL(query string) string {
	return `SELECT line FROM (
    SELECT format('%s %s: %s by %s', CASE WHEN e.may_log_in THEN 'login' ELSE 'role' END, e.role, e.capability, e.path) AS line FROM (` + query + `) e
    UNION ALL
    SELECT format('setting of %s: %s', coalesce('role ' || pg_get_userbyid(nullif(s.setrole, 0)), 'every role'), array_to_string(s.setconfig, ', '))
    FROM pg_db_role_setting s WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
    UNION ALL
    SELECT format('extension %s', x.extname) FROM pg_extension x WHERE x.extname <> 'plpgsql'
    UNION ALL
    SELECT format('foreign server %s of %s', f.srvname, pg_get_userbyid(f.srvowner)) FROM pg_foreign_server f
    UNION ALL
    SELECT format('publication %s of %s', p.pubname, pg_get_userbyid(p.pubowner)) FROM pg_publication p
    UNION ALL
    SELECT format('subscription %s of %s', s.subname, pg_get_userbyid(s.subowner)) FROM pg_subscription s
        WHERE s.subdbid = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
) lines ORDER BY line COLLATE "C"`
}
