package postgres_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/database"
)

// TestHostileDatabases: whatever the database is called, and however it sorts, the log
// is installed, written, sealed and verified in it, or its encoding is refused.
func TestHostileDatabases(t *testing.T) {
	t.Parallel()
	template := audittest.Migrated(t)
	admin := audittest.Connect(t, template.URL(""))
	for name, c := range map[string]struct{ database, options, refused string }{
		"a name with quotes":    {`it's %s $1 \ ${HOME}"; DROP TABLE audit.events; --`, ``, ""},
		"a name with a newline": {"a\nb\tc=d&host=elsewhere?x#y", ``, ""},
		"a Turkish sort order":  {"attack_turkish", `LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR'`, ""},
		"an odd sort order":     {"attack_kn", `LOCALE_PROVIDER icu ICU_LOCALE 'en-u-kn-true-ks-level1'`, ""},
		"Latin 1":               {"attack_latin", `ENCODING 'LATIN1' LOCALE 'C'`, "UTF8"},
	} {
		t.Run(name, func(t *testing.T) {
			audittest.MustExec(t, admin, `CREATE DATABASE `+pgx.Identifier{c.database}.Sanitize()+` TEMPLATE template0 `+c.options)
			at := func(role string) string {
				u, err := url.Parse(template.URL(role))
				if err != nil {
					t.Fatal(err)
				}
				u.Path = "/" + c.database
				return u.String()
			}
			err := audittest.Migrate(t.Context(), at(""))
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("%v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			l := writertest.Open(t, at(database.Writer), nil)
			audittest.Record(t, l, audittest.Decision("allow", 1))
			key := audittest.NewKey(t, "")
			s := sealertest.Open(t, at(database.Writer), l, sealertest.WithKey(key))
			audittest.Seal(t, s)
			audittest.Close(t, l)
			audittest.Seal(t, s)
			r, err := auditreader.Open(t.Context(), at(database.Auditor))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			v, err := audit.NewVerification(audit.Trust{Keys: []audit.Key{key.Key()}})
			if err != nil {
				t.Fatal(err)
			}
			if err := r.Walk(t.Context(), v, nil); err != nil || !v.Report().Sound() {
				t.Errorf("%v %+v", err, v.Report())
			}
			schema, err := r.Schema(t.Context())
			if err != nil || len(schema.Differences()) > 0 {
				t.Errorf("%v %v", err, schema.Differences())
			}
		})
	}
}
