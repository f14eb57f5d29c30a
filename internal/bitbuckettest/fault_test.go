package bitbuckettest

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaults(t *testing.T) {
	s, w := start(t, Options{})
	jwks := w.Issuer() + "/keys.json"
	honest := get(t, s, jwks, "")
	for name, c := range map[string]struct {
		fault Fault
		check func(reply, error) bool
	}{
		"429": {RateLimited(0), func(r reply, _ error) bool {
			return r.status == 429 && r.at("error", "message") == "Rate limit for this resource has been exceeded"
		}},
		"500": {Failing(500), func(r reply, _ error) bool { return r.status == 500 && r.at("type") == "error" }},
		"503": {Failing(503), func(r reply, _ error) bool { return r.status == 503 && r.json == nil }},
		"header": {Fault{Header: http.Header{"Cache-Control": {"max-age=60"}}}, func(r reply, _ error) bool {
			return r.header.Get("Cache-Control") == "max-age=60" && string(r.body) == string(honest.body)
		}},
		"redirect": {Redirecting("https://evil.example/"), func(r reply, _ error) bool {
			return r.status == 302 && r.header.Get("Location") == "https://evil.example/"
		}},
		"truncated": {Truncated(), func(r reply, err error) bool {
			return errors.Is(err, io.ErrUnexpectedEOF) && len(r.body) < len(honest.body)
		}},
		"oversized": {Oversized(1 << 20), func(r reply, _ error) bool {
			return len(r.body) == len(honest.body)+1<<20 && json.Valid(r.body)
		}},
		"replaced": {Replaced("<html>"), func(r reply, _ error) bool { return r.status == 200 && string(r.body) == "<html>" }},
		"edited": {Fault{Edit: func(b []byte) []byte { return []byte(strings.ToUpper(string(b))) }}, func(r reply, _ error) bool {
			return string(r.body) == strings.ToUpper(string(honest.body))
		}},
		"reset": {Resetting(), func(_ reply, err error) bool { return errors.Is(err, syscall.ECONNRESET) }},
	} {
		injected := s.Inject(Keys, c.fault)
		r, err := try(t, s, jwks, "")
		if !c.check(r, err) {
			t.Errorf("%s: %d %v %.100s %v", name, r.status, r.header, r.body, err)
		}
		if r := get(t, s, w.Issuer()+"/.well-known/openid-configuration", ""); r.status != 200 {
			t.Errorf("%s: hit discovery too: %d", name, r.status)
		}
		if injected.Hits() < 1 { // Go repeats a GET on a connection that was reset
			t.Errorf("%s: no hits", name)
		}
		injected.Clear()
		if r := get(t, s, jwks, ""); string(r.body) != string(honest.body) {
			t.Errorf("%s: after it was cleared: %s", name, r.body)
		}
	}
}

func TestResetOverTLS(t *testing.T) {
	s, w := start(t, Options{TLS: true})
	if r := get(t, s, w.Issuer()+"/keys.json", ""); r.status != 200 || !strings.HasPrefix(w.Issuer(), "https://") {
		t.Errorf("%s: %d", w.Issuer(), r.status)
	}
	s.Inject(Any, Resetting())
	if _, err := try(t, s, w.Issuer()+"/keys.json", ""); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	if len(s.CAPEM()) == 0 || s.CertPool() == nil {
		t.Error("no authority")
	}
}

func TestFaultsCount(t *testing.T) {
	s, w := start(t, Options{})
	w.AddRepository("payments", "PAY")
	statuses := func(n int) (got []int) {
		for range n {
			got = append(got, get(t, s, "/repositories/acme/payments", token).status)
		}
		return got
	}
	limit := s.Inject(REST, RateLimited(2))
	if got := statuses(4); got[1] != 200 || got[2] != 429 || got[3] != 429 || limit.Hits() != 2 {
		t.Errorf("a limit of two: %v", got)
	}
	s.Inject(REST, Fault{Status: 500, Times: 1}) // the latest comes first
	if got := statuses(2); got[0] != 500 || got[1] != 429 {
		t.Errorf("one failure on top: %v", got)
	}
	s.ClearFaults()
	s.Inject(Any, Fault{Status: 500, Match: func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/other") }})
	if got := statuses(1); got[0] != 200 {
		t.Errorf("a fault for another path: %v", got)
	}
	if n := s.Count(RepositoryGet); n != 7 || s.Count(REST) != 7 || s.Count(OIDC) != 0 {
		t.Errorf("%d requests", n)
	}
	if r := s.Requests(REST)[0]; r.Authorization != "Bearer "+token || r.URI != "/2.0/repositories/acme/payments" || r.Method != "GET" {
		t.Errorf("request: %+v", r)
	}
}

// A request hangs until the fault is cleared, its client goes, or the server
// stops.
func TestHanging(t *testing.T) {
	s, w := start(t, Options{})
	jwks := w.Issuer() + "/keys.json"
	whole := len(get(t, s, jwks, "").body)
	for _, f := range []Fault{Hanging(), {Stall: true}} {
		for end, want := range map[string]int{"clear": whole, "client": 0, "stop": 0} {
			injected := s.Inject(Keys, f)
			ctx, cancel := context.WithCancel(t.Context())
			result := make(chan int)
			go func() {
				n := 0
				defer func() { result <- n }()
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, jwks, nil)
				if err != nil {
					return
				}
				resp, err := s.Client().Do(req)
				if err != nil {
					return
				}
				defer func() { _ = resp.Body.Close() }()
				if b, err := io.ReadAll(resp.Body); err == nil {
					n = len(b)
				}
			}()
			if err := injected.Wait(soon(t), 1); err != nil {
				t.Fatal(err)
			}
			switch end {
			case "clear":
				injected.Clear()
			case "client":
				cancel()
			case "stop":
				s.Stop()
			}
			if got := <-result; got != want {
				t.Errorf("%+v ended by %s: %d bytes, want %d", f, end, got, want)
			}
			cancel()
			injected.Clear()
			if end == "stop" {
				if err := s.Start(""); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// An outage ends under the same address, with the same issuer, and what was
// rotated meanwhile.
func TestOutage(t *testing.T) {
	s, w := start(t, Options{})
	issuer := w.Issuer()
	s.Stop()
	if _, err := try(t, s, issuer+"/keys.json", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("during the outage: %v", err)
	}
	key := w.RotateKey(false)
	if err := s.Start("127.0.0.1:0"); err == nil {
		t.Error("it came back under another address")
	}
	if err := s.Start(""); err != nil {
		t.Fatal(err)
	}
	if r := get(t, s, issuer+"/keys.json", ""); w.Issuer() != issuer || !strings.Contains(string(r.body), key.ID) {
		t.Errorf("afterwards: %s", r.body)
	}
}

// In a bubble, time stands still while a request hangs, and its deadline costs
// nothing.
func TestInMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, err := New(Options{BaseURL: "https://api.bitbucket.org", TLS: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.StartInMemory(); err != nil {
			t.Fatal(err)
		}
		w := s.AddWorkspace("acme")
		w.SetAccessTokens(token)
		if want := "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc"; w.Issuer() != want {
			t.Errorf("issuer %s", w.Issuer())
		}
		if r := get(t, s, "/workspaces/acme", token); r.at("slug") != "acme" {
			t.Errorf("workspace: %s", r.body)
		}
		s.Inject(Any, Hanging())
		client := s.Client()
		client.Timeout = time.Hour
		begin := time.Now()
		if resp, err := client.Get(w.Issuer() + "/keys.json"); err == nil {
			_ = resp.Body.Close()
			t.Error("a hanging request was answered")
		}
		if took := time.Since(begin); took != time.Hour {
			t.Errorf("it took %v", took)
		}
	})
}

func TestConcurrency(t *testing.T) {
	s, w := start(t, Options{})
	r := w.AddRepository("payments", "PAY")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				e := r.AddEnvironment(s.NewKey("", "EdDSA").ID, Test)
				if _, err := try(t, s, "/repositories/acme/payments/environments?pagelen=100", token); err != nil {
					t.Error(err)
				}
				_ = r.Run("main").Step(e).Token(TokenOptions{})
				w.Publish(s.NewKey("", "ES256"))
				s.Inject(Unknown, Failing(500)).Clear()
				e.Rename(e.UUID)
				r.SetProject(e.UUID[:4])
			}
		})
	}
	if err := s.Wait(soon(t), EnvironmentList, 40); err != nil {
		t.Error(err)
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Wait(ctx, EnvironmentList, 41); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for more: %v", err)
	}
}

// Keys go from closed servers to new ones, and never to two open ones.
func TestKeyPool(t *testing.T) {
	s, w := start(t, Options{})
	n := w.Key().JWK()["n"]
	other, second := start(t, Options{})
	if second.Key().JWK()["n"] == n || w.RotateKey(true).JWK()["n"] == n {
		t.Error("two keys of open servers are one")
	}
	key := w.Key()
	s.Close()
	other.Close()
	defer func() {
		if recover() == nil {
			t.Error("a key signs after Close")
		}
	}()
	key.Sign(nil, nil)
}

func TestNewRefuses(t *testing.T) {
	for _, o := range []Options{
		{BaseURL: "https://api.bitbucket.org"}, {BaseURL: "http://x.example", TLS: true},
		{BaseURL: "http://x.example/2.0"}, {BaseURL: "x.example"}, {BaseURL: "http://\n"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v: accepted", o)
		}
	}
}
