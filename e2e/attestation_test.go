package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSchemaChangeIsDetected: a login that acts as the owner lets every change through.
// The verification and the server name the function; a policy whose content it then
// changes is damage.
func TestSchemaChangeIsDetected(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.seals(t, "  checkpoints: {interval: 100ms}\n")
	w.start()
	w.connect(t, w.anybody(), "nobody.example:443").refused(t, 403, "no_rule_matched")
	attested := func() []fields {
		return w.query(t, `SELECT a ->> 'result' AS result, a ->> 'differences' AS differences FROM (
			SELECT time, convert_from(record, 'UTF8')::json -> 'attributes' AS a FROM audit.events WHERE kind = 'schema_attested') e ORDER BY time`)
	}
	eventually(t, "the schema is attested", func() bool { return len(attested()) == 1 })
	if first := attested()[0]; first["result"] != "as_installed" {
		t.Errorf("%v", first)
	}
	eventually(t, "the access is attested", func() bool {
		return len(w.query(t, `SELECT 1 AS one FROM audit.operations WHERE kind = 'access_attested' AND attributes::text LIKE '%sallyport_owner: alter by owner of%'`)) == 1
	})
	w.sealed(t)
	to := filepath.Join(t.TempDir(), "url")
	url, err := w.adminURL()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, []byte(url), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := command(t, "audit", "verify", "--unanchored", "--database-url-file", to); code != 0 || strings.Contains(out, "schema") {
		t.Errorf("before: %d\n%s%s", code, out, errOut)
	}
	w.alter(t, `SET ROLE sallyport_owner; CREATE OR REPLACE FUNCTION audit.refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN NEW; END $$`)
	code, out, errOut := command(t, "audit", "verify", "--unanchored", "--database-url-file", to)
	if code != 0 || !strings.Contains(out, "not as this version installs it: changed function audit.refuse_change() [") {
		t.Errorf("the function: %d\n%s%s", code, out, errOut)
	}
	w.stop()
	w.start()
	eventually(t, "it is attested again", func() bool { return len(attested()) == 2 })
	if second := attested()[1]; second["result"] != "differs" || !strings.HasPrefix(fmt.Sprint(second["differences"]), "changed function audit.refuse_change() [") {
		t.Errorf("%v", second)
	}
	w.alter(t, `SET ROLE sallyport_owner; ALTER TABLE audit.policies DROP CONSTRAINT policies_digest; UPDATE audit.policies SET content = content || ' '`)
	if code, out, errOut := command(t, "audit", "verify", "--unanchored", "--database-url-file", to); code != 1 || !strings.Contains(out, "policy_changed") {
		t.Errorf("the policy: %d\n%s%s", code, out, errOut)
	}
}
