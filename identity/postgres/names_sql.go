package postgres

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
)

// nameOfWorkspace is the kind of a workspace's name, beside those of package
// identity.
const nameOfWorkspace = "workspace"

// tolerance is the time within which a repeated response does not update a name.
const tolerance = 10 * time.Minute

// nameTable is one of the tables that hold names with their validity, and the
// statements on it. They are composed of the constants below alone.
type nameTable struct {
	columns []column // of a row
	bears   string   // the column whose value one UUID has at a time

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

// nameSchema describes a table of names.
type nameSchema struct {
	table string
	uuid  string   // the column of the UUID that has the name
	scope []string // further columns of the key; a name is unique within the same values
	bears string   // the column whose value one UUID has at a time
	names []string // all columns: the key, and then the attributes
}

// newNameTable composes the statements of a table. uuid and scope are its key; a name
// is unique within the same scope.
func newNameTable(table, bears, uuid string, scope []string, attributes ...string) *nameTable {
	n := &nameSchema{table: table, uuid: uuid, scope: scope, bears: bears}
	n.names = slices.Concat(n.key(), attributes)
	t := &nameTable{bears: bears, same: n.same(), confirm: n.confirm(), end: n.end(), begin: n.begin(), moved: n.moved()}
	for _, name := range n.names {
		t.columns = append(t.columns, column{name, columnType(name) == "uuid"})
	}
	return t
}

func columnType(name string) string {
	if strings.HasSuffix(name, "_uuid") {
		return "uuid"
	}
	return "text"
}

func (n *nameSchema) key() []string { return append([]string{n.uuid}, n.scope...) }

// uniqueKey are the columns whose values one UUID has at a time.
func (n *nameSchema) uniqueKey() []string { return append([]string{n.bears}, n.scope...) }

// value is the statement's parameter for a column.
func (n *nameSchema) value(name string) string {
	at := slices.Index(n.names, name)
	if at < 0 {
		panic("identity/postgres: no column " + name)
	}
	return fmt.Sprintf("$%d::text::%s", at+1, columnType(name))
}

func (n *nameSchema) values() []string {
	var all []string
	for _, name := range n.names {
		all = append(all, n.value(name))
	}
	return all
}

// fetchedAt is the statement's last parameter.
func (n *nameSchema) fetchedAt() string { return fmt.Sprintf("$%d::timestamptz", len(n.names)+1) }

// matches compares columns of alias with the statement's parameters.
func (n *nameSchema) matches(alias string, columns []string) string {
	var all []string
	for _, c := range columns {
		all = append(all, alias+"."+c+" = "+n.value(c))
	}
	return strings.Join(all, " AND ")
}

// joined compares columns of two aliases.
func joined(a, b string, columns []string) string {
	var all []string
	for _, c := range columns {
		all = append(all, a+"."+c+" = "+b+"."+c)
	}
	return strings.Join(all, " AND ")
}

// related finds rows of the same UUID, and rows of the same name.
func (n *nameSchema) related() string {
	return "(" + n.matches("b", n.key()) + " OR " + n.matches("b", n.uniqueKey()) + ")"
}

// same finds the responses that repeat what is known. It updates the time of the latest
// response, but not for each response.
func (n *nameSchema) same() string {
	var arrays []string
	for i, name := range n.names {
		arrays = append(arrays, fmt.Sprintf("$%d::text[]::%s[]", i+1, columnType(name)))
	}
	return fmt.Sprintf(`
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
		strings.Join(arrays, ", "), len(n.names)+1, strings.Join(n.names, ", "), "o."+strings.Join(n.key(), ", o."), n.table, joined("t", "o", n.names),
		n.table, joined("t", "same", n.key()), int(tolerance.Seconds()))
}

func (n *nameSchema) confirm() string {
	return fmt.Sprintf(`UPDATE %s t SET fetched_at = %s WHERE t.valid_to IS NULL AND t.fetched_at < %s AND %s`,
		n.table, n.fetchedAt(), n.fetchedAt(), n.matches("t", n.names))
}

// end ends what the response contradicts: another name of the same UUID, and the same
// name of another. A response that is older than what it contradicts has no effect.
func (n *nameSchema) end() string {
	return fmt.Sprintf(`
		UPDATE %s t SET valid_to = %s
		WHERE t.valid_to IS NULL AND (%s AND NOT (%s) OR %s AND t.%s <> %s)
		  AND NOT EXISTS (SELECT FROM %s b WHERE %s AND (b.valid_to > %s OR b.valid_to IS NULL AND b.fetched_at >= %s))`,
		n.table, n.fetchedAt(), n.matches("t", n.key()), n.matches("t", n.names), n.matches("t", n.uniqueKey()), n.uuid, n.value(n.uuid),
		n.table, n.related(), n.fetchedAt(), n.fetchedAt())
}

func (n *nameSchema) begin() string {
	return fmt.Sprintf(`
		INSERT INTO %s (%s, valid_from, fetched_at) SELECT %s, %s, %s
		WHERE NOT EXISTS (SELECT FROM %s b WHERE %s AND (b.valid_to IS NULL OR b.valid_to > %s))`,
		n.table, strings.Join(n.names, ", "), strings.Join(n.values(), ", "), n.fetchedAt(), n.fetchedAt(), n.table, n.related(), n.fetchedAt())
}

// moved finds the previous UUID of each name that a UUID has since this response, as
// the view identity.reassigned_names does.
func (n *nameSchema) moved() string {
	previous := joined("p", "t", n.uniqueKey())
	if n.table == "identity.deployments" {
		previous = "p.repository_uuid = t.repository_uuid AND (p.deployment_name = t.deployment_name OR p.deployment <> '' AND p.deployment = t.deployment)"
	}
	repository := "''"
	if len(n.scope) > 0 {
		repository = "t." + n.scope[0] + "::text"
	}
	return fmt.Sprintf(`
		SELECT t.%s, t.workspace_uuid::text, p.%s::text, t.%s::text, %s, t.valid_from
		FROM unnest($1::text[]::uuid[], $2::timestamptz[]) AS o (uuid, fetched_at)
		JOIN %s t ON t.%s = o.uuid AND t.valid_from = o.fetched_at
		CROSS JOIN LATERAL (
			SELECT * FROM %s p WHERE %s AND p.valid_from < t.valid_from ORDER BY p.valid_from DESC LIMIT 1
		) p
		WHERE p.%s <> t.%s`,
		n.bears, n.uuid, n.uuid, repository, n.table, n.uuid, n.table, previous, n.uuid, n.uuid)
}
