package bitbuckettest

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func escaped(uuid string) string { return "%7B" + uuid + "%7D" }

func TestNamesByUUID(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("Payments API", "PAY")
	e := r.AddEnvironment("Production EU", Production)
	p := r.Run("main")
	step := p.Step(e)
	byUUID := "/repositories/%7B%7D/" + escaped(r.UUID)

	for path, want := range map[string]map[string]any{
		byUUID: {"full_name": "acme/payments-api", "name": "Payments API", "slug": "payments-api", "uuid": Braced(r.UUID),
			"project.key": "PAY", "workspace.uuid": Braced(w.UUID), "workspace.slug": "acme"},
		"/repositories/acme/payments-api":                             {"uuid": Braced(r.UUID)},
		"/repositories/" + escaped(w.UUID) + "/payments-api":          {"uuid": Braced(r.UUID)},
		"/repositories/acme/" + escaped(r.UUID):                       {"uuid": Braced(r.UUID)},
		"/repositories/acme/" + escaped(r.UUID) + "?fields=slug,uuid": {"uuid": Braced(r.UUID), "slug": "payments-api", "name": nil},
		"/repositories/acme/payments-api?fields=-project.key":         {"project.key": nil, "project.name": "PAY"},
		"/workspaces/" + escaped(w.UUID):                              {"slug": "acme", "uuid": Braced(w.UUID)},
		byUUID + "/environments/" + escaped(e.UUID): {"uuid": Braced(e.UUID), "name": "Production EU", "slug": "production-eu",
			"environment_type.name": "Production", "environment_type.rank": 2.0},
		byUUID + "/pipelines/" + escaped(p.UUID): {"build_number": 1.0, "target.ref_type": "branch", "target.ref_name": "main",
			"target.commit.hash": p.Commit, "state.name": "IN_PROGRESS", "creator.display_name": "Robin Builder"},
		byUUID + "/pipelines/" + escaped(p.UUID) + "/steps/" + escaped(step.UUID): {"uuid": Braced(step.UUID),
			"state.type": "pipeline_step_state_in_progress"},
	} {
		a := get(t, s, path, token)
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
			continue
		}
		for field, value := range want {
			if got := a.at(strings.Split(field, ".")...); got != value {
				t.Errorf("%s: %s is %v, want %v", path, field, got, value)
			}
		}
	}
	if got := get(t, s, byUUID, token).header.Get("X-RateLimit-Limit"); got != "1000" {
		t.Errorf("X-RateLimit-Limit %q", got)
	}

	step.Complete("SUCCESSFUL")
	p.Complete("FAILED")
	path := byUUID + "/pipelines/" + escaped(p.UUID)
	if a := get(t, s, path+"/steps/"+escaped(step.UUID), token); a.at("state", "type") != "pipeline_step_state_completed" {
		t.Errorf("a completed step: %s", a.body)
	}
	if a := get(t, s, path, token); a.at("state", "result", "name") != "FAILED" || a.at("completed_on") == nil {
		t.Errorf("a failed pipeline: %s", a.body)
	}
}

// Raw braces in the path are a 400, whatever they name; Go's client encodes
// them by itself, so this one speaks HTTP by hand.
func TestBraces(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	for path, status := range map[string]int{
		"/2.0/repositories/acme/" + Braced(r.UUID):                     400,
		"/2.0/repositories/{}/" + escaped(r.UUID):                      400,
		"/2.0/workspaces/" + Braced(w.UUID):                            400,
		"/2.0/repositories/acme/" + escaped(r.UUID):                    200,
		"/2.0/repositories/acme/payments?x={}":                         200,
		"/2.0/repositories/acme/" + r.UUID:                             404, // bare, it is a slug
		"/2.0/repositories/%7B%7D/payments":                            404, // empty braces go with a UUID alone
		"/2.0/repositories/acme/payments%2Fenvironments":               404,
		"/2.0/repositories/other/" + escaped(r.UUID):                   404,
		"/2.0/repositories/" + escaped(r.UUID) + "/" + escaped(r.UUID): 404,
	} {
		if got := raw(t, s, path); got != status {
			t.Errorf("%s: status %d, want %d", path, got, status)
		}
	}
}

func raw(t *testing.T, s *Server, path string) int {
	t.Helper()
	host := strings.TrimPrefix(s.BaseURL(), "http://")
	conn, err := net.Dial("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_, err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nConnection: close\r\n\r\n", path, host, token)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

func TestPagination(t *testing.T) {
	s, w := start(t, Options{})
	var want []string
	for i := range 25 {
		r := w.AddRepository(fmt.Sprintf("repository-%02d", i), "PAY")
		want = append(want, r.FullName())
	}
	names := func(a reply) (got []string) {
		values, _ := a.at("values").([]any)
		for _, v := range values {
			got = append(got, v.(map[string]any)["full_name"].(string))
		}
		return got
	}
	for _, bare := range []bool{false, true} {
		for query, pages := range map[string]int{"": 3, "?pagelen=3": 3, "?pagelen=20": 2, "?pagelen=100": 1,
			"?pagelen=20&fields=next,values.full_name": 2, "?fields=values.full_name": 1} {
			s.SetBarePages(bare)
			var got []string
			count := 0
			for next := s.APIURL() + "/repositories/acme" + query; next != ""; count++ {
				if !strings.HasPrefix(next, s.APIURL()+"/repositories/acme") {
					t.Fatalf("next is %s", next)
				}
				a := get(t, s, next, token)
				if bare && (a.at("size") != nil || a.at("page") != nil) {
					t.Errorf("a bare page: %s", a.body)
				}
				if !bare && query == "" && (a.at("size") != 25.0 || a.at("page") != float64(count+1) || a.at("pagelen") != 10.0) {
					t.Errorf("page %d: %v %v %v", count, a.at("size"), a.at("page"), a.at("pagelen"))
				}
				got = append(got, names(a)...)
				next, _ = a.at("next").(string)
			}
			expect := want
			if query == "?fields=values.full_name" {
				expect = want[:10] // who asks for values alone gets no next
			}
			if diff := cmp.Diff(expect, got); diff != "" || count != pages {
				t.Errorf("%q: %d pages, want %d: %s", query, count, pages, diff)
			}
		}
	}
	s.SetBarePages(false)
	if diff := cmp.Diff(want[10:20], names(get(t, s, "/repositories/acme?page=2", token))); diff != "" {
		t.Error(diff)
	}
	back, _ := get(t, s, "/repositories/acme?page=2", token).at("previous").(string)
	if diff := cmp.Diff(want[:10], names(get(t, s, back, token))); diff != "" {
		t.Error(diff)
	}
	for _, query := range []string{"?pagelen=101", "?pagelen=0", "?pagelen=x", "?page=0", "?page=!", "?q=name%3D1", "?sort=name"} {
		if a := get(t, s, "/repositories/acme"+query, token); a.status != http.StatusBadRequest || a.at("type") != "error" {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}

func TestAccess(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	step := r.Run("main").Step(nil)
	other := s.AddWorkspace("other")
	other.SetAccessTokens("token-of-other")
	w.AddAccessToken("repository-only", ScopeRepository)
	for _, c := range []struct {
		path, bearer string
		status       int
	}{
		{"/repositories/acme/payments", "", 401},
		{"/repositories/acme/payments", "wrong", 401},
		{"/repositories/acme/payments", step.Token(TokenOptions{}), 401},
		{"/repositories/acme/payments", "token-of-other", 404},
		{"/repositories/%7B%7D/" + escaped(r.UUID), "token-of-other", 404},
		{"/repositories/acme", "token-of-other", 404},
		{"/repositories/acme/payments", "repository-only", 200},
		{"/repositories/acme/payments/environments", "repository-only", 403},
		{"/repositories/acme/payments/environments", token, 200},
		{"/workspaces/acme", "", 403},
		{"/workspaces/nobody", "", 403},
		{"/workspaces/acme", "token-of-other", 403},
		{"/workspaces/nobody", token, 404},
		{"/nothing", token, 404},
	} {
		a := get(t, s, c.path, c.bearer)
		if a.status != c.status {
			t.Errorf("%s with %q: status %d, want %d", c.path, c.bearer, a.status, c.status)
		}
		if message, _ := a.at("error", "message").(string); a.status >= 400 && (a.at("type") != "error" || message == "") {
			t.Errorf("%s: not Bitbucket's form of an error: %s", c.path, a.body)
		}
	}
	w.SetAccessTokens("rotated")
	if a := get(t, s, "/repositories/acme/payments", token); a.status != 401 {
		t.Errorf("the old token: %d", a.status)
	}
	if a := get(t, s, "/repositories/acme/payments", "rotated"); a.status != 200 {
		t.Errorf("the new token: %d", a.status)
	}
}

// A UUID survives a rename and a transfer, and does not come back with its name.
func TestIdentity(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	e := r.AddEnvironment("production", Production)
	byUUID := "/repositories/%7B%7D/" + escaped(r.UUID)

	r.Rename("ledger")
	if a := get(t, s, byUUID, token); a.at("full_name") != "acme/ledger" {
		t.Errorf("renamed: %s", a.body)
	}
	if a := get(t, s, "/repositories/acme/payments", token); a.status != 404 {
		t.Errorf("the old name: %d", a.status)
	}
	e.Rename("Live")
	if a := get(t, s, byUUID+"/environments/"+escaped(e.UUID), token); a.at("slug") != "live" {
		t.Errorf("renamed: %s", a.body)
	}
	e.Delete()
	again := r.AddEnvironment("Live", Test)
	if a := get(t, s, byUUID+"/environments/"+escaped(e.UUID), token); a.status != 404 || again.UUID == e.UUID {
		t.Errorf("a deleted environment: %d", a.status)
	}

	other := s.AddWorkspace("other")
	other.SetAccessTokens("token-of-other")
	r.Transfer(other, "OPS")
	step := r.Run("main").Step(nil)
	if a := get(t, s, byUUID, "token-of-other"); a.at("full_name") != "other/ledger" || a.at("project", "key") != "OPS" {
		t.Errorf("transferred: %s", a.body)
	}
	if a := get(t, s, byUUID, token); a.status != 404 {
		t.Errorf("transferred, with the old owner's token: %d", a.status)
	}
	if c := step.Claims(TokenOptions{}); c["iss"] != other.Issuer() || c["workspaceUuid"] != Braced(other.UUID) {
		t.Errorf("transferred: %v", c)
	}

	r.Delete()
	impostor := other.AddRepository("ledger", "OPS")
	if a := get(t, s, "/repositories/other/ledger", "token-of-other"); a.at("uuid") != Braced(impostor.UUID) || impostor.UUID == r.UUID {
		t.Errorf("made again: %s", a.body)
	}
	if step.Token(TokenOptions{}) == "" {
		t.Error("a step of a deleted repository has no token")
	}
}

func TestMisusePanics(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	e := r.AddEnvironment("production", Production)
	other := w.AddRepository("other", "PAY")
	for name, misuse := range map[string]func(){
		"slug taken":          func() { s.AddWorkspace("acme") },
		"no slug":             func() { s.AddWorkspace("Acme Inc") },
		"repository taken":    func() { w.AddRepository("Payments", "PAY") },
		"rename to a taken":   func() { other.Rename("payments") },
		"environment taken":   func() { r.AddEnvironment("Production", Test) },
		"unknown type":        func() { r.AddEnvironment("x", "production") },
		"foreign environment": func() { other.Run("main").Step(e) },
		"unknown algorithm":   func() { s.NewKey("", "HS256") },
		"algorithm misfits":   func() { w.Key().SignRaw("ES256", nil, nil) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			misuse()
		}()
	}
	if a := get(t, s, "/repositories/acme/payments", token); a.status != 200 {
		t.Errorf("after the panics: %d", a.status) // and no lock is held
	}
}
