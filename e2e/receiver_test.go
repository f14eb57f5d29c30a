package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

const receiverSecret = "0123456789abcdef-webhook"

// pushTo is the body of a push of Cloud.
func pushTo(repository, branch string) string {
	return fmt.Sprintf(`{"actor":{},"repository":{"full_name":%q,"uuid":"{22222222-0000-4000-8000-000000000002}"},`+
		`"push":{"changes":[{"new":{"type":"branch","name":%q,"target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"old":null}]}}`, repository, branch)
}

// receiving makes a fixture with these receivers, each with a secret file of its name, and
// returns the address of their listener.
func receiving(t *testing.T, o options, receivers ...string) (w *fixture, address, secrets string) {
	t.Helper()
	address, secrets = freeAddress(t), t.TempDir()
	var b strings.Builder
	fmt.Fprintf(&b, "webhooks:\n  listener: {address: %q}\n  receivers:\n", address)
	for _, r := range receivers {
		name, _, _ := strings.Cut(r, ",")
		file := filepath.Join(secrets, name)
		if err := os.WriteFile(file, []byte(receiverSecret), 0o600); err != nil {
			t.Fatal(err)
		}
		if r = strings.TrimPrefix(r, name); !strings.Contains(r, "kind: ") {
			r += ", kind: cloud"
		}
		fmt.Fprintf(&b, "    - {name: %s, path: /hooks/%s, secret_file: %q%s}\n", name, name, file, r)
	}
	o.extra += b.String()
	w = newFixture(t, o)
	w.secrets = append(w.secrets, receiverSecret)
	return w, address, secrets
}

// deliver posts a body from a source address of loopback, and returns the status.
func deliver(t *testing.T, from, url, body, secret string) int {
	t.Helper()
	key, err := webhook.NewSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Event-Key", "repo:push")
	req.Header.Set(webhook.SignatureHeader, key.Sign([]byte(body)).String())
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		return dialer.DialContext(ctx, network, address)
	}, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	var text bytes.Buffer
	_, _ = text.ReadFrom(response.Body)
	if strings.Contains(text.String(), receiverSecret) {
		t.Errorf("the response shows the secret: %s", text.String())
	}
	return response.StatusCode
}

// TestReceiver: verified deliveries are recorded one by one, and a flood of unverified
// requests from many addresses adds one event with their counts.
func TestReceiver(t *testing.T) {
	t.Parallel()
	w, address, _ := receiving(t, options{}, "policy, repositories: [acme/tools]", `other, events: ["issue:created"]`)
	w.start()
	url := "http://" + address + "/hooks/"
	body := pushTo("acme/tools", "main")
	for _, c := range []struct {
		path, body, secret string
		status             int
	}{
		{"policy", body, receiverSecret, 200},
		{"policy", body, receiverSecret, 200}, // a repetition
		{"policy", pushTo("acme/other", "main"), receiverSecret, 200},
		{"other", body, receiverSecret, 200},
		{"policy", "{}", receiverSecret, 400},
		{"nobody", body, receiverSecret, 404},
	} {
		if status := deliver(t, "127.0.0.1", url+c.path, c.body, c.secret); status != c.status {
			t.Errorf("%s %s: answered %d, want %d", c.path, c.body, status, c.status)
		}
	}
	const flood = 300
	for n := range flood {
		from := fmt.Sprintf("127.%d.%d.1", 1+n/250, n%250)
		if status := deliver(t, from, url+"policy", body, "another-secret-of-a-stranger"); status != 401 {
			t.Fatalf("a forged delivery is answered %d", status)
		}
	}
	w.stop()
	rows := w.query(t, `SELECT verdict, reason, repository FROM audit.events WHERE kind = 'webhook_received' ORDER BY writer_sequence`)
	if len(rows) != 3 {
		t.Fatalf("%d deliveries are recorded: %v", len(rows), rows)
	}
	for i, want := range []fields{
		{"verdict": "allow", "reason": "webhook_configured", "repository": "acme/tools"},
		{"verdict": "deny", "reason": "webhook_repository_not_listed", "repository": "acme/other"},
		{"verdict": "deny", "reason": "webhook_event_not_listed", "repository": "acme/tools"},
	} {
		check(t, "delivery", rows[i], want)
	}
	totals := w.query(t, `SELECT total, reasons FROM audit.unrecorded_totals WHERE reasons::text LIKE '%webhook%'`)
	if len(totals) == 0 || len(totals) > 5 { // one for each minute
		t.Fatalf("totals: %v", totals)
	}
	forged := 0
	for _, row := range totals {
		text, err := json.Marshal(row["reasons"])
		if err != nil {
			t.Fatal(err)
		}
		var reasons map[string]string
		if err := json.Unmarshal(text, &reasons); err != nil {
			t.Fatal(err)
		}
		var n int
		if _, err := fmt.Sscan(reasons["webhook_signature_invalid"], &n); err == nil {
			forged += n
		}
	}
	if forged != flood {
		t.Errorf("%d forged deliveries are counted, want %d: %v", forged, flood, totals)
	}
	if rows := w.query(t, `SELECT 1 AS one FROM audit.events WHERE client_address <<= '127.0.0.0/8' AND kind NOT IN ('webhook_received')`); len(rows) > 0 {
		t.Errorf("%d other events have the address of a client", len(rows))
	}
}

func stateSecretOld(t *testing.T) []alertScrape {
	w := newFixture(t, options{})
	w.start()
	at := time.Now().Add(-91 * 24 * time.Hour)
	if err := os.Chtimes(w.database.urlFile, at, at); err != nil {
		t.Fatal(err)
	}
	return []alertScrape{{Body: w.scrape()}}
}

// stateWebhooks: one receiver has an old secret and a database that is unavailable, one an
// empty secret, and one a list of networks that cannot be fetched.
func stateWebhooks(t *testing.T) []alertScrape {
	db, postgres := newServerDatabase(t)
	w, address, secrets := receiving(t, options{database: db}, "old", "emptied", "atlassian, networks_from: atlassian")
	long := time.Now().AddDate(0, 0, -100)
	if err := os.Chtimes(filepath.Join(secrets, "old"), long, long); err != nil {
		t.Fatal(err)
	}
	w.start()
	if err := os.WriteFile(filepath.Join(secrets, "emptied"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the empty secret shows", func() bool {
		return strings.Contains(w.scrape(), `sallyport_webhook_secret_last_reload_successful{receiver="emptied"} 0`)
	})
	before := w.scrape()
	postgres.Kill(t)
	defer postgres.Restart(t)
	if status := deliver(t, "127.0.0.1", "http://"+address+"/hooks/old", pushTo("acme/tools", "main"), receiverSecret); status != 503 {
		t.Errorf("a delivery without a database is answered %d", status)
	}
	return []alertScrape{{Body: before}, {Body: w.scrape(), after: 2 * time.Minute}}
}
