package bitbuckettest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
)

// FuzzPath: whatever is asked for, the answer is a known status, and JSON
// except where braces are raw; nothing panics.
func FuzzPath(f *testing.F) {
	s, err := New(Options{Seed: 1, BaseURL: "http://bitbucket.example"})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(s.Close)
	w := s.AddWorkspace("acme")
	w.SetAccessTokens(token)
	for _, name := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"} {
		w.AddRepository(name, "PAY")
	}
	f.Add("/2.0/repositories/acme", "pagelen=10&page=ZnJvbToxMA&fields=values.uuid,-next,*")
	f.Add("/2.0/repositories/%7B%7D/%7B922e118c-f34f-4226-a897-0e0afbec553d%7D", "")
	f.Add("/2.0/repositories/acme", "page=ZnJvbTotMQ")
	f.Add("/2.0/workspaces/acme/pipelines-config/identity/oidc/keys.json", "fields=keys.kid")
	f.Fuzz(func(t *testing.T, path, query string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Host != "" {
			return
		}
		u.RawQuery = query
		r := &http.Request{Method: http.MethodGet, URL: u, RequestURI: path, Header: http.Header{"Authorization": {"Bearer " + token}}}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, r)
		switch rec.Code {
		case 200, 403, 404:
			if !json.Valid(rec.Body.Bytes()) {
				t.Errorf("%d %s", rec.Code, rec.Body)
			}
		case 400:
		default:
			t.Errorf("status %d", rec.Code)
		}
	})
}
