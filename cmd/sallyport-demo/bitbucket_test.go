package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBitbucketAlone follows what the command prints: the configuration names an
// issuer that publishes keys, and the tokens are of the steps that were asked for.
func TestBitbucketAlone(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := runBitbucket(ctx, w, bitbucketOptions{address: "127.0.0.1:0", tokens: "127.0.0.1:0", directory: t.TempDir(), audience: "https://egress.acme.example"})
		_ = w.CloseWithError(err)
		ended <- err
	}()
	lines := bufio.NewScanner(r)
	var issuer, tokens string
	for tokens == "" && lines.Scan() {
		if _, after, ok := strings.Cut(lines.Text(), "issuer: "); ok {
			issuer = after
		}
		if m := regexp.MustCompile(`http://\S+/token`).FindString(lines.Text()); m != "" {
			tokens = m
		}
	}
	if issuer == "" || tokens == "" {
		t.Fatalf("issuer %q, tokens %q: %v", issuer, tokens, lines.Err())
	}
	get := func(url string) (int, string) {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	if status, body := get(issuer + "/.well-known/openid-configuration"); status != 200 || !strings.Contains(body, issuer) {
		t.Errorf("the issuer answers %d %s", status, body)
	}
	for query, want := range map[string]struct {
		status int
		text   string
	}{
		"?repository=acme/payments&deployment=production&branch=main": {200, ""},
		"?repository=acme/website":                                    {200, ""},
		"?repository=acme/payments&lifetime=-10m":                     {200, ""},
		"?repository=acme/payments&lifetime=-1s":                      {400, "write -10m"},
		"":                                                            {400, "is not a repository here"},
		"?repository=acme/payment":                                    {400, "is not a repository here"},
		"?repository=acme/website&deployment=x":                       {400, "has no deployment"},
		"?repository=acme/website&deploiment=x":                       {400, "is not a parameter"},
		"?repository=acme/website&lifetime=60":                        {400, "is not a duration"},
	} {
		status, body := get(tokens + query)
		if status != want.status || !strings.Contains(body, want.text) || status == 200 && strings.Count(body, ".") != 2 {
			t.Errorf("%s: %d %s", query, status, body)
		}
	}
	_, expired := get(tokens + "?repository=acme/payments&lifetime=-10m")
	var claims struct{ Iat, Exp int64 }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(expired, ".")[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("%s: %v", payload, err)
	}
	if now := time.Now().Unix(); claims.Exp-claims.Iat != 3600 || claims.Exp > now-300 {
		t.Errorf("the expired token lives from %d to %d, and now is %d", claims.Iat, claims.Exp, now)
	}
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestBitbucketAloneIsLoopbackOnly: no other machine can make tokens.
func TestBitbucketAloneIsLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:1", ":1", "192.0.2.1:1", "example.test:1", "127.0.0.1", ""} {
		err := runBitbucket(t.Context(), io.Discard, bitbucketOptions{address: address, tokens: "127.0.0.1:0", directory: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "--address") || !strings.Contains(err.Error(), "127.0.0.1") {
			t.Errorf("%q: %v", address, err)
		}
	}
}
