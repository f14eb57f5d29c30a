package clientmatrix

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/clients.md from the results")

// TestPageShowsTheResults: docs/clients.md has the tables of the results that are
// compared with the clients.
func TestPageShowsTheResults(t *testing.T) {
	results, err := Load("../../e2e/testdata/clients.json")
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := WritePage("../../docs/clients.md", results); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	page, err := Page(text, results)
	if err != nil {
		t.Fatal(err)
	}
	if string(page) != string(text) {
		t.Error("the tables of docs/clients.md are not those of e2e/testdata/clients.json: run make clients")
	}
	for _, client := range Clients() {
		if !slices.ContainsFunc(results, func(r *Result) bool { return r.Client == client.Name }) {
			t.Errorf("%s has no result: run make clients CLIENT=%q", client.Name, client.Name)
		}
	}
	if _, err := Page([]byte("# Clients\n"), results); err == nil {
		t.Error("a page without a place for the tables is accepted")
	}
}

// TestMessage: the line with the reason counts, without what differs from run to run,
// and never a token.
func TestMessage(t *testing.T) {
	for _, c := range []struct {
		name, output, want string
		shown              bool
	}{
		{"reason", "trying\nERROR 403: Sallyport no_rule_matched.\nbye\n", "ERROR 403: Sallyport no_rule_matched.", true},
		{"status", "curl: (56) CONNECT tunnel failed, response 403\n", "curl: (56) CONNECT tunnel failed, response 403", false},
		{"the forwarder's line is not the client's", "sallyport: denied a.example:443: no_rule_matched\nfatal: 403\n", "fatal: 403", false},
		{"nothing", "", "", false},
		{"nor is its report", "fatal: 403\nsallyport: what this step of acme/app requested\ndenied 1 a.example:443 no_rule_matched\n", "fatal: 403", false},
		{"names and numbers", "x\x1b[31m12:34 failed: curl-https-d.denied.example:45678 in 12.5 s, /tmp/a/b/c.pem", "x12:34 failed: HOST in …, …c.pem", false},
		{"token", "cannot use https://step:eyJhbGciOi.eyJpc3Mi.c2ln@127.0.0.1:3129: error", "cannot use https://step:…@127.0.0.1: error", false},
		{"long", strings.Repeat("before ", 30) + "no_rule_matched" + strings.Repeat(" after", 30), "…" + "", true},
	} {
		text, shown := Message(c.output, "no_rule_matched")
		if shown != c.shown || c.name != "long" && text != c.want || c.name == "long" && (!strings.Contains(text, "no_rule_matched") || len([]rune(text)) > 112) {
			t.Errorf("%s: %q, %v", c.name, text, shown)
		}
	}
}

// TestViolations: through sallyport-step, a client fails the test by each thing that
// the forwarder is there to prevent.
func TestViolations(t *testing.T) {
	good := func() *Outcome {
		return &Outcome{Works: true, Denied: &Refusal{Status: 1, Attempts: 1, Same: 1}, Expired: &Refusal{Status: 1, Attempts: 2, Same: 1}, Restart: &Restart{During: true, After: true}}
	}
	client, exception := &Client{Name: "c"}, &Client{Name: "c", Except: map[Way]string{Step: "it cannot"}}
	if list := Violations(client, good()); len(list) > 0 {
		t.Errorf("a good outcome: %q", list)
	}
	if list := Violations(exception, good()); len(list) != 1 {
		t.Errorf("an exception that works: %q", list)
	}
	for name, edit := range map[string]func(*Outcome){
		"fails":                 func(o *Outcome) { o.Works = false },
		"leaks":                 func(o *Outcome) { o.Leaks = []string{"output"} },
		"repeats":               func(o *Outcome) { o.Denied.Same = 5 },
		"repeats when expired":  func(o *Outcome) { o.Expired.Same = 20 },
		"bypasses":              func(o *Outcome) { o.Denied = &Refusal{} },
		"lost during a restart": func(o *Outcome) { o.Restart.During = false },
		"fails after a restart": func(o *Outcome) { o.Restart.After = false },
	} {
		o := good()
		if edit(o); len(Violations(client, o)) != 1 {
			t.Errorf("%s: %q", name, Violations(client, o))
		}
		if name == "leaks" {
			o.Works = false
			if list := Violations(exception, o); len(list) != 1 {
				t.Errorf("an exception that leaks: %q", list)
			}
		}
	}
}

// TestDifferences: better than documented is a difference too; what belongs to a
// version counts for that version only.
func TestDifferences(t *testing.T) {
	result := func(version string, works bool, status int) *Result {
		return &Result{Client: "c", Version: version, Ways: map[Way]*Outcome{Plain: {Works: works, Denied: &Refusal{Status: status, Attempts: 1}}}}
	}
	documented := result("1.0", false, 1)
	for name, c := range map[string]struct {
		measured *Result
		want     int
	}{
		"same":                  {result("1.0", false, 1), 0},
		"better":                {result("1.0", true, 1), 1},
		"other status":          {result("1.0", false, 2), 1},
		"other version, status": {result("1.1", false, 2), 0},
		"other version, better": {result("1.1", true, 1), 1},
		"another way":           {&Result{Client: "c", Ways: map[Way]*Outcome{TLS: {}}}, 1},
	} {
		if list := Differences(c.measured, documented); len(list) != c.want {
			t.Errorf("%s: %q", name, list)
		}
	}
}
