package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
)

// TestBitbucketDelivers: the emulated products deliver to one server. What each receiver
// does with the events is seen from outside.
func TestBitbucketDelivers(t *testing.T) {
	t.Parallel()
	builds := newBuildServer(t, forwardKey(t))
	list := newNetworkList(t)
	w, address, secrets := receiving(t, options{program: mutant(t), env: []string{"SALLYPORT_TEST_NETWORKS=" + list.URL}},
		"names, actions: [refresh_names]",
		"server, kind: data_center, forward_to: [builds]",
		"published, networks_from: atlassian",
		"hourly, networks_from: atlassian, networks_max_age: 1h")
	if err := os.WriteFile(filepath.Join(secrets, "server"), []byte(forwardSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	w.secrets = append(w.secrets, forwardSecret)
	w.rewrite(t, "  receivers:\n", fmt.Sprintf("  endpoints:\n    - {name: builds, url: %q, allow_networks: [\"127.0.0.0/8\"], timeout: 5s}\n  receivers:\n", builds.URL))
	w.start()
	url := "http://" + address + "/hooks/"
	t.Run("renamed, moved and deleted repositories", func(t *testing.T) { refreshesNames(t, w, url+"names") })
	t.Run("Data Center", func(t *testing.T) { dataCenterDelivers(t, w, url, builds) })
	t.Run("published networks", func(t *testing.T) { acceptsPublishedNetworks(t, w, url, list) })
}

// delivered waits for n deliveries of a hook, and expects each to be accepted.
func delivered(t *testing.T, sender *hook.Sender, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all, err := sender.Wait(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range all {
		if !d.Accepted() {
			t.Errorf("%s: %+v", d.Event, d.Attempts)
		}
	}
}

// refreshesNames: what was renamed has its new name within seconds, although names are
// cached for longer. A repository that moved to another workspace, and one that was
// deleted, are flagged with their UUIDs.
func refreshesNames(t *testing.T, w *fixture, url string) {
	to := "raw.partner.example:" + echo(t).port
	name := func(r *bitbuckettest.Repository) any {
		t.Helper()
		c := w.caller(r, nil, "main")
		w.expect(t, c, to, 200, "")
		return w.decision(t, c)["repository"]
	}
	renamed, moved, deleted := w.Workspace.AddRepository("renamed", "PAY"), w.Workspace.AddRepository("moved", "PAY"), w.Workspace.AddRepository("deleted", "PAY")
	changed := make(chan struct{}) // one listing has all changes: the next one would come half a minute later
	var hooks []*hook.Sender
	for _, r := range []*bitbuckettest.Repository{renamed, moved, deleted} {
		if got := name(r); got != r.FullName() {
			t.Fatalf("%s is recorded as %v", r.FullName(), got)
		}
		hooks = append(hooks, r.AddHook(hook.Config{URL: url, Secret: receiverSecret, BeforeAttempt: func(int) { <-changed }}))
	}
	renamed.Rename("settlements")
	moved.Transfer(w.Bitbucket.AddWorkspace("beta"), "WEB")
	deleted.Delete()
	close(changed)
	for _, h := range hooks {
		delivered(t, h, 1)
	}
	eventually(t, "the new name is used", func() bool { return name(renamed) == "acme/settlements" })
	want := []string{deleted.UUID + " acme/deleted", moved.UUID + " acme/moved"}
	slices.Sort(want)
	eventually(t, "the missing repositories are flagged", func() bool {
		_, d := w.detail(t)
		return d["missing_repositories"] == strings.Join(want, "; ")
	})
	w.log.wait(t, "of the deleted repository", func(line fields) bool {
		return strings.Contains(show(line["msg"]), "missing in the workspace") && show(line["repository"]) == show(deleted.UUID+" acme/deleted")
	})
	rows := w.query(t, `SELECT event, repository, repository_uuid, verdict FROM audit.webhook_deliveries WHERE receiver = 'names' ORDER BY event`)
	if len(rows) != 3 {
		t.Fatalf("recorded: %v", rows)
	}
	for i, want := range []fields{
		{"event": "repo:deleted", "repository": "acme/deleted", "repository_uuid": deleted.UUID, "verdict": "allow"},
		{"event": "repo:transfer", "repository": "beta/moved", "repository_uuid": moved.UUID, "verdict": "allow"},
		{"event": "repo:updated", "repository": "acme/settlements", "repository_uuid": renamed.UUID, "verdict": "allow"},
	} {
		check(t, "delivery", rows[i], want)
	}
}

// dataCenterDelivers: a connection test changes nothing, and is refused by a receiver of
// Cloud. A push and a merge reach the endpoint with Data Center's signature.
func dataCenterDelivers(t *testing.T, w *fixture, url string, builds *buildServer) {
	app := w.Workspace.AddRepository("app", "PAY")
	cloud := app.AddHook(hook.Config{Product: hook.DataCenter, URL: url + "names", Events: []string{"none"}})
	cloud.SendPing()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if all, err := cloud.Wait(ctx, 1); err != nil || all[0].Attempts[0].Status/100 != 4 {
		t.Errorf("the connection test of a receiver of Cloud: %v %+v", err, all)
	}
	server := app.AddHook(hook.Config{Product: hook.DataCenter, URL: url + "server", Secret: forwardSecret})
	server.SendPing()
	delivered(t, server, 1)
	before, after := strings.Repeat("a", 40), strings.Repeat("b", 40)
	app.Push(bitbuckettest.RefChange{Ref: "refs/heads/main", Old: before, New: after})
	pull := app.AddPull(bitbuckettest.Pull{Destination: "main", Source: after, Title: "fix"})
	pull.Merge(bitbuckettest.Account{UUID: w.Workspace.UUID, Name: "Kim"}, strings.Repeat("c", 40))
	app.Merged(pull)
	delivered(t, server, 3)
	eventually(t, "push and merge reach the endpoint", func() bool { return len(builds.received()) == 2 })
	for i, body := range builds.received() {
		if string(server.Deliveries()[1+i].Body) != body {
			t.Errorf("the endpoint received %s", body)
		}
	}
	rows := w.query(t, `SELECT event, kind, repository, repository_uuid, refs, verdict FROM audit.webhook_deliveries WHERE receiver = 'server' ORDER BY writer_sequence`)
	if len(rows) != 2 {
		t.Fatalf("recorded: %v", rows)
	}
	for i, want := range []fields{
		{"event": "repo:refs_changed", "kind": "data_center", "repository": "PAY/app", "repository_uuid": nil, "verdict": "allow"},
		{"event": "pr:merged", "kind": "data_center", "repository": "PAY/app", "repository_uuid": nil, "verdict": "allow"},
	} {
		check(t, "delivery", rows[i], want)
		if refs := show(rows[i]["refs"]); !strings.Contains(refs, "main") {
			t.Errorf("%s: the refs are %s", want["event"], refs)
		}
	}
}

// networkList stands in for ip-ranges.atlassian.com. It lists 127.0.4.0/24.
type networkList struct {
	*httptest.Server
	fails atomic.Bool
}

func newNetworkList(t *testing.T) *networkList {
	t.Helper()
	l := &networkList{}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if l.fails.Load() {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		_, _ = w.Write([]byte(`{"creationDate": "2026-11-01T00:00:00", "syncToken": 1, "items": [` +
			`{"network": "127.0.4.0", "mask_len": 24, "cidr": "127.0.4.0/24", "product": ["bitbucket"], "direction": ["egress"]},` +
			`{"network": "127.0.6.0", "mask_len": 24, "cidr": "127.0.6.0/24", "product": ["jira"], "direction": ["egress"]}]}`))
	}))
	t.Cleanup(l.Close)
	return l
}

// acceptsPublishedNetworks: deliveries from the published networks of Bitbucket are
// accepted, and no others. The list outlives a restart without its publisher, up to the
// receiver's maximum age.
func acceptsPublishedNetworks(t *testing.T, w *fixture, url string, list *networkList) {
	eventually(t, "the list is fetched", func() bool {
		return deliver(t, "127.0.4.1", url+"published", pushTo("acme/tools", "first"), receiverSecret) == http.StatusOK
	})
	expect := func(from, receiver, branch string, status int) {
		t.Helper()
		if got := deliver(t, from, url+receiver, pushTo("acme/tools", branch), receiverSecret); got != status {
			t.Errorf("%s from %s: answered %d, want %d", receiver, from, got, status)
		}
	}
	expect("127.0.4.2", "hourly", "second", 200)
	expect("127.0.6.1", "published", "third", 403) // of another product
	expect("127.0.0.1", "published", "fourth", 403)

	w.stop()
	list.fails.Store(true)
	before := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(filepath.Join(w.data, "atlassian-networks.json"), before, before); err != nil {
		t.Fatal(err)
	}
	w.restart()
	expect("127.0.4.3", "published", "fifth", 200)
	expect("127.0.0.1", "published", "sixth", 403)
	expect("127.0.4.4", "hourly", "seventh", 403)
}
