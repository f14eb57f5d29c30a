// Package migrations holds the database's schema: numbered SQL, embedded, and
// the statements that make its roles. It runs nothing.
//
// A file is named NNNNN_words.sql, holds one way up and one way down in the
// annotations of pressly/goose, and never changes once it is released. From the
// first release on, servers of two neighboring versions work on one database at
// the same time, so a migration only adds, and a later migration removes what
// it replaces. Until then the migrations are rewritten in place.
package migrations

import (
	"embed"
	"io/fs"
	"strconv"
	"strings"
)

// Oldest is the oldest schema that this version's server works with. Of a newer
// one than [Latest], which the next version may already have made, the schema
// itself reports whether it does: sallyport.oldest_program().
const Oldest = 9

// Table is the table of the migrations that were applied.
const Table = "sallyport.schema_version"

// Files are the migrations.
//
//go:embed *.sql
var Files embed.FS

// Roles is SQL that makes the roles, lets the owner create schemas in the
// current database, and lets the login that runs it act as the owner. It may be run
// again, and by several at the same time. It needs a login that may create
// roles and that owns the database, or a superuser.
//
//go:embed roles/roles.sql
var Roles string

// Access is the query that the view audit.access was made of: every role that can
// reach the log, by which path. Who owns the view can replace it, so what is put on
// record is asked with this text.
var Access = between("00006_access.sql", "CREATE VIEW audit.access AS\n", ";\nCOMMENT ON VIEW audit.access")

// between returns the text of a migration between two marks.
func between(name, from, to string) string {
	text, err := Files.ReadFile(name)
	if err != nil {
		panic("migrations: " + err.Error())
	}
	_, rest, begins := strings.Cut(string(text), from)
	found, _, ends := strings.Cut(rest, to)
	if !begins || !ends {
		panic("migrations: " + name + " has no text between " + strconv.Quote(from) + " and " + strconv.Quote(to))
	}
	return found
}

// schema15 is what the migrations install on PostgreSQL 15: a line for each object,
// with the SHA-256 of its definition. A test of package audit/postgres writes it.
//
//go:embed schema-15.txt
var schema15 string

// Schema returns what the migrations install on a major version of PostgreSQL: the
// SHA-256 of each object's definition, owner and privileges, by kind and name; nil
// where that is not known.
func Schema(major int) map[string]string {
	if major != 15 {
		return nil
	}
	objects := map[string]string{}
	for line := range strings.Lines(schema15) {
		if digest, object, found := strings.Cut(strings.TrimSuffix(line, "\n"), " "); found {
			objects[object] = digest
		}
	}
	return objects
}

// Latest is the number of the newest migration.
func Latest() int64 {
	names, err := fs.Glob(Files, "*.sql")
	if err != nil || len(names) == 0 {
		panic("migrations: none embedded")
	}
	number, _, _ := strings.Cut(names[len(names)-1], "_")
	latest, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		panic("migrations: " + names[len(names)-1] + " has no number")
	}
	return latest
}
