package e2e

import (
	"crypto/tls"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestReload: SIGHUP activates a valid policy, without touching open tunnels,
// and refuses one that is not, with the last good one continuing.
func TestReload(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	first := w.anybody()
	open := w.tunnel(t, first, "raw.partner.example:"+target.port)
	open.echoes(t, "before")
	const late = "late.partner.example"
	unknown := w.anybody()
	w.connect(t, unknown, late+":443").refused(t, 403, "no_rule_matched")
	old := w.decision(t, unknown)
	w.both(t, old, fields{"verdict": "deny"})

	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(w.policy, "egress", "late.rego"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		w.signal(syscall.SIGHUP)
	}
	write("package sallyport.egress\n\nallow contains {\"rule\": \"late\"} if input.target.host == \"" + late + "\"\n")
	line := w.log.wait(t, "of the new policy", func(f fields) bool {
		return f["msg"] == "policy activated" && f["revision"] != old["revision"]
	})
	known := w.anybody()
	if v := w.curl(t, known.proxyURL(w.proxy), w.https(late, "/")); v.status != "200" {
		t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
	}
	w.both(t, w.decision(t, known), fields{"verdict": "allow", "rule": "late", "revision": line["revision"]})
	open.echoes(t, "an open tunnel goes on")

	// The server polls by itself too, so that a bad state may be found before the
	// signal; either way it is refused once, and the log names the line.
	write("package sallyport.egress\n\nallow contains {\"rule\": \"broken\" if true\n")
	refusal := w.log.wait(t, "of the bad policy", message("policy rejected; keeping last good revision", nil))
	if output := show(refusal["error"]); !strings.Contains(output, "egress/late.rego:3") {
		t.Errorf("the log does not say where: %s", output)
	}
	check(t, "log line", refusal, fields{"revision": line["revision"]})
	still := w.anybody()
	if v := w.curl(t, still.proxyURL(w.proxy), w.https(late, "/")); v.status != "200" {
		t.Fatalf("curl ended with %d\n%s", v.exit, v.verbose)
	}
	w.both(t, w.decision(t, still), fields{"verdict": "allow", "rule": "late", "revision": line["revision"]})
	status, ready := w.readyz()
	if status != 200 || !strings.Contains(show(ready["detail"]), "egress/late.rego:3") {
		t.Errorf("/readyz answered %d: %v", status, ready)
	}
	changes := w.query(t, `SELECT kind, revision, message FROM audit.policy_changes ORDER BY time`)
	if len(changes) != 3 {
		t.Fatalf("audit.policy_changes has %v", changes)
	}
	check(t, "first change", changes[0], fields{"kind": "policy_loaded", "revision": old["revision"]})
	check(t, "second change", changes[1], fields{"kind": "policy_loaded", "revision": line["revision"]})
	check(t, "third change", changes[2], fields{"kind": "policy_rejected"})
	if !strings.Contains(show(changes[2]["message"]), "egress/late.rego:3") {
		t.Errorf("the event does not say where: %v", changes[2])
	}
	open.conn.Close()
	w.both(t, w.decision(t, first), fields{"verdict": "allow", "rule": "raw", "revision": old["revision"]})
}

// TestCertificateReload: a renewed certificate is served without a restart, and
// open tunnels on the old one continues.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{tls: true})
	w.start()
	target := echo(t)
	config := w.authority(t)
	conn, err := tls.Dial("tcp", w.tlsProxy, config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := w.anybody()
	a := sendRawOn(t, conn, connectTo("raw.partner.example:"+target.port, c.basic()))
	if a.StatusCode != http.StatusOK {
		t.Fatalf("%s %s", a.line, a.body)
	}
	a.echoes(t, "before")

	const renewed = "proxy.acme.example"
	if _, _, err := w.WriteCertificate(w.Directory, renewed); err != nil {
		t.Fatal(err)
	}
	config.ServerName = renewed
	eventually(t, "the new certificate is served", func() bool {
		conn, err := tls.Dial("tcp", w.tlsProxy, config)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
	w.log.wait(t, "of the certificate", message("certificate loaded", nil))
	a.echoes(t, "and after")
	conn.Close()
	w.both(t, w.decision(t, c), fields{"verdict": "allow", "listener": w.tlsProxy})
}
