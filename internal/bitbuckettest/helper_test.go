package bitbuckettest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

const token = "access-token-of-acme"

// start serves on loopback with the workspace acme, whose access token is token.
func start(t *testing.T, o Options) (*Server, *Workspace) {
	t.Helper()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	if err := s.Start("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	w := s.AddWorkspace("acme")
	w.SetAccessTokens(token)
	return s, w
}

// soon bounds what ought to happen at once.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

type reply struct {
	status int
	header http.Header
	body   []byte
	json   map[string]any
}

// get asks for a path below the API's base, or an absolute URL, with an access
// token unless it is empty.
func get(t *testing.T, s *Server, path, bearer string) reply {
	t.Helper()
	r, err := try(t, s, path, bearer)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func try(t *testing.T, s *Server, path, bearer string) (reply, error) {
	t.Helper()
	if path[0] == '/' {
		path = s.APIURL() + path
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	client := s.Client()
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	body, err := io.ReadAll(resp.Body)
	err = errors.Join(err, resp.Body.Close())
	r := reply{status: resp.StatusCode, header: resp.Header, body: body}
	_ = json.Unmarshal(body, &r.json) // not every answer is JSON
	return r, err
}

// at walks a decoded answer.
func (r reply) at(path ...string) any {
	var v any = r.json
	for _, p := range path {
		m, _ := v.(map[string]any)
		v = m[p]
	}
	return v
}
