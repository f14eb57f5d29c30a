package postgres

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/identity"
)

// nameTable is one of the tables that hold names with their validity, and the
// statements on it. They are composed of the constants below alone.
type nameTable struct {
	columns []column // what a row says
	bears   string   // the column that only one may bear at a time

	same, confirm, end, begin, moved string
}

type column struct {
	name string
	uuid bool
}

// nameOrder is the order in which the tables are written.
var nameOrder = []string{nameOfWorkspace, identity.NameOfRepository, identity.NameOfDeployment}

// nameTables are the tables by the kind of what has the name. The first column
// of each is its UUID.
var nameTables = map[string]*nameTable{
	nameOfWorkspace: newNameTable("identity.workspaces", "workspace",
		"workspace_uuid", nil, "workspace"),
	identity.NameOfRepository: newNameTable("identity.repositories", "repository",
		"repository_uuid", nil, "workspace_uuid", "workspace", "repository", "project"),
	identity.NameOfDeployment: newNameTable("identity.deployments", "deployment_name",
		"deployment_uuid", []string{"repository_uuid"}, "workspace_uuid", "deployment_name", "deployment", "deployment_type"),
}

// newNameTable describes a table. uuid and within are its key; a name is borne
// by one only within the same.
func newNameTable(table, bears, uuid string, within []string, says ...string) *nameTable {
	t := &nameTable{bears: bears}
	key := append([]string{uuid}, within...)
	var names, arrays, values []string
	for i, name := range append(key[:len(key):len(key)], says...) {
		kind := "text"
		if strings.HasSuffix(name, "_uuid") {
			kind = "uuid"
		}
		t.columns = append(t.columns, column{name, kind == "uuid"})
		names = append(names, name)
		arrays = append(arrays, fmt.Sprintf("$%d::text[]::%s[]", i+1, kind))
		values = append(values, fmt.Sprintf("$%d::text::%s", i+1, kind))
	}
	fetchedAt := fmt.Sprintf("$%d::timestamptz", len(names)+1)
	list := strings.Join(names, ", ")

	value := func(name string) string {
		for i := range names {
			if names[i] == name {
				return values[i]
			}
		}
		panic("identity/postgres: no column " + name)
	}
	// matches compares columns of alias with the statement's parameters.
	matches := func(alias string, columns []string) string {
		var all []string
		for _, c := range columns {
			all = append(all, alias+"."+c+" = "+value(c))
		}
		return strings.Join(all, " AND ")
	}
	joined := func(a, b string, columns []string) string {
		var all []string
		for _, c := range columns {
			all = append(all, a+"."+c+" = "+b+"."+c)
		}
		return strings.Join(all, " AND ")
	}
	bearing := append([]string{bears}, within...)
	related := "(" + matches("b", key) + " OR " + matches("b", bearing) + ")"

	// Finds the answers that say what is known, and notes when, but not each time.
	t.same = fmt.Sprintf(`
		WITH o AS (
			SELECT * FROM unnest(%s, $%d::timestamptz[]) WITH ORDINALITY AS o (%s, fetched_at, n)
		), same AS (
			SELECT o.n, o.fetched_at, t.fetched_at AS before, t.valid_from, %s
			FROM o JOIN %s t ON t.valid_to IS NULL AND %s
		), confirmed AS (
			UPDATE %s t SET fetched_at = same.fetched_at FROM same
			WHERE t.valid_from = same.valid_from AND %s AND same.before < same.fetched_at - interval '%d seconds'
		)
		SELECT n FROM same`,
		strings.Join(arrays, ", "), len(names)+1, list, "o."+strings.Join(key, ", o."), table, joined("t", "o", names),
		table, joined("t", "same", key), int(tolerance.Seconds()))

	t.confirm = fmt.Sprintf(`UPDATE %s t SET fetched_at = %s WHERE t.valid_to IS NULL AND t.fetched_at < %s AND %s`,
		table, fetchedAt, fetchedAt, matches("t", names))

	// Ends what the answer contradicts: another name of the same, and the same
	// name of another. An answer that is older than what it contradicts says
	// nothing any more.
	t.end = fmt.Sprintf(`
		UPDATE %s t SET valid_to = %s
		WHERE t.valid_to IS NULL AND (%s AND NOT (%s) OR %s AND t.%s <> %s)
		  AND NOT EXISTS (SELECT FROM %s b WHERE %s AND (b.valid_to > %s OR b.valid_to IS NULL AND b.fetched_at >= %s))`,
		table, fetchedAt, matches("t", key), matches("t", names), matches("t", bearing), uuid, value(uuid),
		table, related, fetchedAt, fetchedAt)

	t.begin = fmt.Sprintf(`
		INSERT INTO %s (%s, valid_from, fetched_at) SELECT %s, %s, %s
		WHERE NOT EXISTS (SELECT FROM %s b WHERE %s AND (b.valid_to IS NULL OR b.valid_to > %s))`,
		table, list, strings.Join(values, ", "), fetchedAt, fetchedAt, table, related, fetchedAt)

	// Asks who bore the name before those who began to bear it now, as the view
	// identity.reassigned_names does.
	borne := joined("p", "t", bearing)
	if table == "identity.deployments" {
		borne = "p.repository_uuid = t.repository_uuid AND (p.deployment_name = t.deployment_name OR p.deployment <> '' AND p.deployment = t.deployment)"
	}
	t.moved = fmt.Sprintf(`
		SELECT t.%s, t.workspace_uuid::text, p.%s::text, t.%s::text, %s, t.valid_from
		FROM unnest($1::text[]::uuid[], $2::timestamptz[]) AS o (uuid, fetched_at)
		JOIN %s t ON t.%s = o.uuid AND t.valid_from = o.fetched_at
		CROSS JOIN LATERAL (
			SELECT * FROM %s p WHERE %s AND p.valid_from < t.valid_from ORDER BY p.valid_from DESC LIMIT 1
		) p
		WHERE p.%s <> t.%s`,
		bears, uuid, uuid, withinOr(within), table, uuid, table, borne, uuid, uuid)
	return t
}

func withinOr(within []string) string {
	if len(within) == 0 {
		return "''"
	}
	return "t." + within[0] + "::text"
}
