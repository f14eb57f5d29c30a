package reader

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/migrations"
)

// Grants is a table about who may do what in the database now.
type Grants struct {
	Name    string
	Title   string
	Note    string
	Columns []string
	Rows    [][]string
}

type accessQuery struct {
	name, title, note string
	columns           []string
	sql               string
}

// ofPeriod are the tables and views of the log, of the partitions those that hold a
// part of the period: others come and go while it stays.
const ofPeriod = `of_period AS (
    SELECT c.oid, c.relowner, c.relacl, c.relkind, n.nspname::text || '.' || c.relname::text AS name
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('audit', 'identity', 'sallyport', 'webhook') AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')
      AND (NOT c.relispartition OR c.relname BETWEEN
           'events_' || to_char($1::timestamptz AT TIME ZONE 'UTC', 'YYYY_MM') AND
           'events_' || to_char(($2::timestamptz - interval '1 microsecond') AT TIME ZONE 'UTC', 'YYYY_MM'))
)`

var effective = `WITH effective AS (
` + migrations.Access + `
)`

var accessQueries = []accessQuery{
	{"effective", "Who can do what to the log, and by which path", "Every role and every path: privileges, memberships with and without INHERIT, ownership, attributes, predefined roles. A role that can become superuser, alter or drop can change the log; a checkpoint from outside shows that.",
		[]string{"role", "may_log_in", "capability", "path"},
		effective + ` SELECT e.role::text, e.may_log_in::text, e.capability::text, e.path::text FROM effective e
WHERE $1::timestamptz < $2::timestamptz ORDER BY e.role, e.capability, e.path COLLATE "C"`},
	{"roles", "Roles that can reach the log", "A superuser, and a role that may act as one, can do anything.",
		[]string{"role", "superuser", "may_log_in", "may_create_roles", "may_create_databases", "replicates", "bypasses_row_security"},
		effective + ` SELECT r.rolname::text, r.rolsuper::text, r.rolcanlogin::text, r.rolcreaterole::text, r.rolcreatedb::text, r.rolreplication::text, r.rolbypassrls::text
FROM pg_catalog.pg_roles r
WHERE r.rolname::text IN (SELECT e.role FROM effective e) AND $1::timestamptz < $2::timestamptz ORDER BY r.rolname`},
	{"members", "Who holds which role", "Memberships of the roles above, and of PostgreSQL's predefined ones.",
		[]string{"role", "held_by", "may_grant_it_on", "granted_by"},
		effective + ` SELECT g.rolname::text, m.rolname::text, a.admin_option::text, coalesce(b.rolname::text, '')
FROM pg_catalog.pg_auth_members a
JOIN pg_catalog.pg_roles g ON g.oid = a.roleid
JOIN pg_catalog.pg_roles m ON m.oid = a.member
LEFT JOIN pg_catalog.pg_roles b ON b.oid = a.grantor
WHERE m.rolname::text IN (SELECT e.role FROM effective e) AND $1::timestamptz < $2::timestamptz ORDER BY g.rolname, m.rolname, b.rolname`},
	{"grants", "Privileges on the log's tables and views", "No UPDATE, DELETE or TRUNCATE on a table of the schema audit belongs here but the owner's own, which the triggers refuse.",
		[]string{"table", "owner", "granted_to", "privilege", "may_grant_it_on"},
		`WITH ` + ofPeriod + ` SELECT t.name, o.rolname::text, coalesce(g.rolname::text, 'PUBLIC'), a.privilege_type, a.is_grantable::text
FROM of_period t
JOIN pg_catalog.pg_roles o ON o.oid = t.relowner
CROSS JOIN LATERAL aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a
LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
ORDER BY t.name COLLATE "C", 3, a.privilege_type, a.is_grantable`},
	{"column_grants", "Privileges on single columns", "",
		[]string{"table", "column", "granted_to", "privilege"},
		`WITH ` + ofPeriod + ` SELECT t.name, c.attname::text, coalesce(g.rolname::text, 'PUBLIC'), a.privilege_type
FROM of_period t
JOIN pg_catalog.pg_attribute c ON c.attrelid = t.oid AND c.attacl IS NOT NULL
CROSS JOIN LATERAL aclexplode(c.attacl) a
LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee
ORDER BY t.name COLLATE "C", c.attname, 3, a.privilege_type`},
	{"triggers", "Triggers that refuse changes", "Each has to be enabled ALWAYS.",
		[]string{"table", "trigger", "enabled", "function"},
		`WITH ` + ofPeriod + ` SELECT t.name, g.tgname::text,
       CASE g.tgenabled WHEN 'A' THEN 'ALWAYS' WHEN 'O' THEN 'only in ordinary sessions' WHEN 'R' THEN 'only in replicas' ELSE 'DISABLED' END,
       g.tgfoid::regproc::text
FROM of_period t JOIN pg_catalog.pg_trigger g ON g.tgrelid = t.oid
WHERE NOT g.tgisinternal OR g.tgfoid IN (SELECT p.oid FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname IN ('audit', 'identity'))
ORDER BY t.name COLLATE "C", g.tgname`},
	{"unguarded", "Tables without the triggers that refuse every change", "None belongs here. What the triggers' functions do is in the attestation of the schema.",
		[]string{"table"},
		`WITH ` + ofPeriod + ` SELECT t.name FROM of_period t
WHERE t.relkind IN ('r', 'p', 'f') AND t.name LIKE 'audit.%' AND (
      NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.oid AND g.tgenabled = 'A' AND g.tgfoid = to_regprocedure('audit.refuse_change()') AND g.tgtype = 2 + 8 + 16 + 32)
   OR NOT EXISTS (SELECT FROM pg_catalog.pg_trigger g WHERE g.tgrelid = t.oid AND g.tgenabled = 'A' AND g.tgfoid = to_regprocedure('audit.refuse_change()') AND g.tgtype = 1 + 2 + 8 + 16))
ORDER BY t.name COLLATE "C"`},
	{"definers", "Functions that act with their owner's rights", "What others may do to the log goes through these alone.",
		[]string{"function", "owner", "may_be_called_by"},
		`SELECT p.oid::regprocedure::text, o.rolname::text,
       coalesce((SELECT string_agg(coalesce(g.rolname::text, 'PUBLIC'), ', ' ORDER BY coalesce(g.rolname::text, 'PUBLIC') COLLATE "C")
                 FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a LEFT JOIN pg_catalog.pg_roles g ON g.oid = a.grantee), '')
FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles o ON o.oid = p.proowner JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
WHERE n.nspname IN ('audit', 'identity', 'sallyport', 'webhook') AND p.prosecdef AND $1::timestamptz < $2::timestamptz
ORDER BY 1`},
}

// Access lists who may do what to the log now. The period selects which partitions
// are shown.
func (r *Reader) Access(ctx context.Context, from, to time.Time) ([]Grants, error) {
	var list []Grants
	for _, q := range accessQueries {
		g := Grants{Name: q.name, Title: q.title, Note: q.note, Columns: q.columns}
		rows, err := r.tx.Query(ctx, q.sql, from, to)
		if err != nil {
			return nil, r.explain("ask for "+q.title, err)
		}
		if g.Rows, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) ([]string, error) {
			cells := make([]string, len(q.columns))
			pointers := make([]any, len(cells))
			for i := range cells {
				pointers[i] = &cells[i]
			}
			err := row.Scan(pointers...)
			return cells, err
		}); err != nil {
			return nil, r.explain("ask for "+q.title, err)
		}
		list = append(list, g)
	}
	return list, nil
}
