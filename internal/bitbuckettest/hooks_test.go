package bitbuckettest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest/hook"
	"github.com/sallyport/sallyport/webhook"
)

// sink accepts every delivery.
func sink(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }))
	t.Cleanup(server.Close)
	return server.URL
}

// gitIn runs git in a working tree.
func gitIn(t *testing.T, directory string, arguments ...string) string {
	t.Helper()
	cmd := exec.Command("git", arguments...)
	cmd.Dir = directory
	cmd.Env = append(os.Environ(), append(gitEnvironment, "GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", arguments, err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestPushIsDelivered: each push to the Git server is delivered, and the receiver's parser
// reads from the body of both products what was pushed.
func TestPushIsDelivered(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("egress-policy", "SEC")
	url, err := r.ServeGit(filepath.Join(t.TempDir(), "served"))
	if err != nil {
		t.Fatal(err)
	}
	cloud := r.AddHook(hook.Config{URL: sink(t), Secret: "one"})
	server := r.AddHook(hook.Config{Product: hook.DataCenter, URL: sink(t), Secret: "two"})
	tree := filepath.Join(t.TempDir(), "tree")
	gitIn(t, "", "clone", "--quiet", url, tree)
	commit := func(text string) string {
		gitIn(t, tree, "commit", "--quiet", "--allow-empty", "-m", text)
		return gitIn(t, tree, "rev-parse", "HEAD")
	}
	n := 0
	// pushed pushes, and returns the refs of both deliveries, which agree.
	pushed := func(arguments ...string) string {
		t.Helper()
		gitIn(t, tree, append([]string{"push", "--quiet", "origin"}, arguments...)...)
		n++
		var refs [2]string
		for i, h := range []*hook.Sender{cloud, server} {
			all, err := h.Wait(soon(t), n)
			if err != nil {
				t.Fatal(err)
			}
			d, kind := all[n-1], webhook.Cloud
			if i == 1 {
				kind = webhook.DataCenter
			}
			event, err := webhook.Parse(kind, d.Event, d.Body)
			if err != nil || !d.Accepted() {
				t.Fatalf("%+v: %v\n%s", d, err, d.Body)
			}
			text, err := json.Marshal(event.Refs)
			if err != nil {
				t.Fatal(err)
			}
			if refs[i] = string(text); i == 0 && event.Repository.UUID != r.UUID || i == 1 && event.Repository.FullName != "SEC/egress-policy" {
				t.Errorf("about %+v", event.Repository)
			}
		}
		if refs[0] != refs[1] {
			t.Errorf("Cloud sends %s and Data Center %s", refs[0], refs[1])
		}
		return refs[0]
	}
	expect := func(got, want string, arguments ...any) {
		t.Helper()
		if want = fmt.Sprintf(want, arguments...); got != want {
			t.Errorf("delivered %s, want %s", got, want)
		}
	}
	first := commit("first")
	expect(pushed("main"), `[{"type":"branch","name":"main","change":"created","new":%q}]`, first)
	second := commit("second")
	gitIn(t, tree, "tag", "-a", "-m", "v1", "v1")
	expect(pushed("main", "v1"), `[{"type":"branch","name":"main","change":"updated","old":%q,"new":%q},{"type":"tag","name":"v1","change":"created","new":%q}]`, first, second, second)
	expect(pushed("main:topic"), `[{"type":"branch","name":"topic","change":"created","new":%q}]`, second)
	gitIn(t, tree, "reset", "--quiet", "--hard", first)
	third := commit("third")
	expect(pushed("--force", "main"), `[{"type":"branch","name":"main","change":"updated","old":%q,"new":%q}]`, second, third)
	if d := cloud.Deliveries()[n-1]; !bytes.Contains(d.Body, []byte(`"forced":true`)) || !bytes.Contains(d.Body, []byte(`third\n`)) {
		t.Errorf("a forced push is delivered as %s", d.Body)
	}
	expect(pushed(":topic"), `[{"type":"branch","name":"topic","change":"deleted","old":%q}]`, second)
	if got := gitIn(t, tree, "ls-remote", "origin", "refs/heads/*"); got != third+"\trefs/heads/main" {
		t.Errorf("the server has %s", got)
	}
	if s.Count(Git) == 0 {
		t.Error("requests of git are not counted")
	}
}

// TestOtherEventsAreDelivered: merges and renames are delivered as each product does, and
// parsed.
func TestOtherEventsAreDelivered(t *testing.T) {
	_, w := start(t, Options{})
	r := w.AddRepository("app", "PAY")
	cloud := r.AddHook(hook.Config{URL: sink(t)})
	server := r.AddHook(hook.Config{Product: hook.DataCenter, URL: sink(t)})
	pull := r.AddPull(Pull{Destination: "main", Source: strings.Repeat("b", 40), Title: "fix"})
	pull.Merge(Account{UUID: w.UUID, Name: "Kim"}, strings.Repeat("a", 40))
	r.Merged(pull)
	r.Rename("app2")
	r.SetProject("WEB")
	r.Transfer(w.server.AddWorkspace("other"), "PAY")
	r.Delete()
	for _, c := range []struct {
		sender *hook.Sender
		kind   webhook.Kind
		want   string
	}{
		{cloud, webhook.Cloud, "pullrequest:fulfilled acme/app true, repo:updated acme/app2 false, repo:updated acme/app2 false, repo:transfer other/app2 false, repo:deleted other/app2 false"},
		{server, webhook.DataCenter, "pr:merged PAY/app true, repo:modified PAY/app2 false, repo:modified WEB/app2 false, repo:modified PAY/app2 false"},
	} {
		all, err := c.sender.Wait(soon(t), strings.Count(c.want, ",")+1)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, d := range all {
			e, err := webhook.Parse(c.kind, d.Event, d.Body)
			if err != nil {
				t.Fatalf("%v: %s", err, d.Body)
			}
			got = append(got, fmt.Sprint(e.Key, " ", e.Repository.FullName, " ", webhook.AffectsBranch(e, "main")))
		}
		if text := strings.Join(got, ", "); text != c.want {
			t.Errorf("delivered %s\nwant %s", text, c.want)
		}
	}
}

// call sends a request with a body to the API.
func (s *Server) call(t *testing.T, method, path, bearer, body string) (int, map[string]any) {
	t.Helper()
	req, err := http.NewRequestWithContext(soon(t), method, s.APIURL()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := s.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer map[string]any
	_ = json.NewDecoder(resp.Body).Decode(&answer) // 204 has no body
	return resp.StatusCode, answer
}

// TestHooksByREST: a hook is made, listed, changed and deleted by a token with the scope
// webhook. The secret is never returned, and an update that omits it keeps it.
func TestHooksByREST(t *testing.T) {
	s, w := start(t, Options{})
	const hooks = "hooks-token"
	w.AddAccessToken(hooks, ScopeWebhook)
	r := w.AddRepository("app", "PAY")
	url := sink(t)
	const path = "/repositories/acme/app/hooks"
	good := fmt.Sprintf(`{"description": "d", "url": %q, "active": true, "secret": "s1", "events": ["repo:push"]}`, url)
	for name, c := range map[string]struct {
		bearer, body string
		status       int
	}{
		"without the scope": {token, good, 403},
		"another token":     {"x", good, 401},
		"not JSON":          {hooks, "{", 400},
		"no events":         {hooks, fmt.Sprintf(`{"url": %q}`, url), 400},
		"unknown event":     {hooks, fmt.Sprintf(`{"url": %q, "events": ["repo:pushed"]}`, url), 400},
		"not a URL":         {hooks, `{"url": "app", "events": ["repo:push"]}`, 400},
		"secret too long":   {hooks, fmt.Sprintf(`{"url": %q, "events": ["repo:push"], "secret": %q}`, url, strings.Repeat("x", 129)), 400},
	} {
		if status, answer := s.call(t, "POST", path, c.bearer, c.body); status != c.status {
			t.Errorf("%s: %d %v", name, status, answer)
		}
	}
	status, made := s.call(t, "POST", path, hooks, good)
	if status != 201 || made["secret_set"] != true || made["secret"] != nil || made["url"] != url || len(r.Hooks()) != 1 {
		t.Fatalf("%d %v", status, made)
	}
	one := path + "/" + escaped(strings.Trim(made["uuid"].(string), "{}"))
	secret := func(body, want string) {
		t.Helper()
		if status, answer := s.call(t, "PUT", one, hooks, body); status != 200 || answer["secret_set"] != (want != "") || r.Hooks()[0].Config().Secret != want {
			t.Errorf("%s: %d %v", body, status, answer)
		}
	}
	secret(`{"description": "other"}`, "s1")
	secret(`{"secret": "s2"}`, "s2")
	secret(`{"secret": null}`, "")
	r.Push(RefChange{Ref: "refs/heads/main", New: strings.Repeat("a", 40)})
	if _, err := r.Hooks()[0].Wait(soon(t), 1); err != nil {
		t.Error(err)
	}
	if status, answer := s.call(t, "GET", path, hooks, ""); status != 200 || len(answer["values"].([]any)) != 1 {
		t.Errorf("%d %v", status, answer)
	}
	if status, answer := s.call(t, "POST", "/workspaces/acme/hooks", hooks, good); status != 201 {
		t.Errorf("%d %v", status, answer)
	}
	for _, want := range []int{204, 404} {
		if status, answer := s.call(t, "DELETE", one, hooks, ""); status != want {
			t.Errorf("%d %v", status, answer)
		}
	}
}
