package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// nestedArrays are two equal values that nest so deeply that comparing them takes
// more than a gigabyte of stack.
func nestedArrays() string {
	var text strings.Builder
	for _, v := range []string{"x", "y"} {
		text.WriteString(v + "0 := json.unmarshal(\"[1]\")\n\n")
		for i := 1; i <= 20; i++ {
			before, now := v+strconv.Itoa(i-1), v+strconv.Itoa(i)
			text.WriteString(now + " := array.concat([" + before + "], [" + before + "])\n\n")
		}
	}
	return text.String()
}

// TestHostileRepository: what one repository writes ends a worker process and not
// the server. The repository alone is refused, and the reason is in the log, the
// metrics, /readyz and an event; rules and tests that end a worker are rejected with
// their file; and a restart reaches the good revision.
func TestHostileRepository(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	folder := filepath.Join(w.policy, "repositories", "acme", "tools")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte("package sallyport.repository"+text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("bomb.rego", "[\"acme/tools\"]\n\n"+nestedArrays()+"allow contains {\"rule\": \"bomb\"} if {\n\tinput.target.host == \"bomb.example\"\n\tx20 == y20\n}\n")
	w.start()
	tools := w.caller(w.Tools, nil, "main")
	w.connect(t, tools, "bomb.example:443").refused(t, 403, "policy_error")
	line := w.log.wait(t, "of the evaluation", message("policy could not be evaluated", nil))
	for _, want := range []string{"repository acme/tools", "repositories/acme/tools/bomb.rego:", "stack limit"} {
		if output := show(line["error"]); !strings.Contains(output, want) {
			t.Errorf("the log does not name %q: %s", want, output)
		}
	}
	w.connect(t, w.caller(w.Tools, nil, "main"), "own.tools.example:443").refused(t, 403, "policy_error")
	target := echo(t)
	w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port).echoes(t, "another repository")
	_, metrics := w.get("/metrics")
	for _, want := range []string{`sallyport_policy_worker_deaths_total{cause="stack"} 1`, "sallyport_policy_quarantined_repositories 1"} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	if status, ready := w.readyz(); status != 200 || !strings.Contains(show(ready["detail"]), "quarantined_repositories:acme/tools") {
		t.Errorf("/readyz: %d %v", status, ready)
	}
	eventually(t, "the event", func() bool {
		return len(w.query(t, `SELECT 1 FROM audit.events WHERE kind = 'policy_worker_terminated' AND repository = 'acme/tools' AND message LIKE '%acme/tools exceeded the stack limit%'`)) > 0
	})

	for _, file := range [][2]string{
		{"late.rego", "[\"acme/tools\"]\n\ndeny contains {\"rule\": \"late\"} if x20 == y20\n"},
		{"late_test.rego", "_test[\"acme/tools\"]\n\nimport data.sallyport.repository[\"acme/tools\"] as own\n\ntest_bomb if own.x20 == own.y20\n"},
	} {
		name := file[0]
		if err := os.Remove(filepath.Join(folder, "late.rego")); err != nil && name != "late.rego" {
			t.Fatal(err)
		}
		write(name, file[1])
		w.signal(syscall.SIGHUP)
		rejected := w.log.wait(t, "of the rejected rules", func(f fields) bool {
			return f["msg"] == "policy of a repository rejected" && f["repository"] == "acme/tools" && strings.Contains(show(f["error"]), "repositories/acme/tools/") &&
				(name == "late.rego") == (f["kind"] == "does_not_load")
		})
		if output := show(rejected["error"]); !strings.Contains(output, "stack limit") {
			t.Errorf("%s: %s", name, output)
		}
		w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port).echoes(t, "after "+name)
	}
	w.stop()
	w.restart()
	w.tunnel(t, w.anybody(), "raw.partner.example:"+target.port).echoes(t, "after the restart")
}
