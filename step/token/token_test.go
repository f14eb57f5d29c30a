package token

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// jwt returns a token with an expiry.
func jwt(name string, expires time.Time) string {
	encode := base64.RawURLEncoding.EncodeToString
	return encode([]byte(`{"alg":"RS256"}`)) + "." + encode(fmt.Appendf(nil, `{"sub":%q,"exp":%d}`, name, expires.Unix())) + ".c2lnbmF0dXJl"
}

func TestParse(t *testing.T) {
	t.Parallel()
	at := time.Unix(2_000_000_000, 0)
	payload := func(claims string) string {
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".eA"
	}
	for _, c := range []struct {
		text    string
		expires time.Time
		err     error
	}{
		{jwt("a", at), at, nil},
		{" " + jwt("a", at) + "\r\n", at, nil},
		{payload(`{"exp":2000000000.9}`), at, nil},
		{payload(`{"exp":"2000000000"}`), time.Time{}, nil},
		{payload(`{"exp":-1}`), time.Time{}, nil},
		{payload(`{"exp":1e300}`), time.Time{}, nil},
		{payload(`{"exp":null}`), time.Time{}, nil},
		{payload(`{}`), time.Time{}, nil},
		{payload(`[`), time.Time{}, nil},
		{"opaque", time.Time{}, nil},
		{"a.%.c", time.Time{}, errNotAToken},
		{"", time.Time{}, errEmpty},
		{" \n", time.Time{}, errEmpty},
		{"Bearer x", time.Time{}, errNotAToken},
		{"x\r\nX-Injected: y", time.Time{}, errNotAToken},
		{"tök", time.Time{}, errNotAToken},
		{"====", time.Time{}, errNotAToken},
		{strings.Repeat("a", MaxBytes), time.Time{}, nil},
		{strings.Repeat("a", MaxBytes+1), time.Time{}, errTooLong},
	} {
		got, err := Parse(c.text)
		if !got.Expires.Equal(c.expires) || !errors.Is(err, c.err) || err == nil && got.Reveal() != strings.TrimSpace(c.text) {
			t.Errorf("%.60q: %v, %v", c.text, got.Expires, err)
		}
	}
}

// TestPrinting: no formatter shows a token.
func TestPrinting(t *testing.T) {
	t.Parallel()
	secret := jwt("a", time.Unix(2_000_000_000, 0))
	parsed, err := Parse(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		for _, value := range []any{parsed, &parsed, struct{ T Token }{parsed}, static{parsed}} {
			if s := fmt.Sprintf(verb, value); strings.Contains(s, secret) || strings.Contains(s, "c2lnbmF0dXJl") {
				t.Errorf("%s of %T: %s", verb, value, s)
			}
		}
	}
}

func TestEnvironment(t *testing.T) {
	secret := jwt("a", time.Unix(2_000_000_000, 0))
	t.Setenv("STEP_TOKEN", secret)
	s, err := Environment("STEP_TOKEN", true)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Token(t.Context()); err != nil || got.Reveal() != secret {
		t.Errorf("%v, %v", got, err)
	}
	if _, found := os.LookupEnv("STEP_TOKEN"); found {
		t.Error("the variable is still set")
	}
	if _, err := Environment("STEP_TOKEN", false); err == nil || !strings.Contains(err.Error(), "oidc: true") {
		t.Errorf("an unset variable: %v", err)
	}
	t.Setenv("STEP_TOKEN", "secret word")
	if _, err := Environment("STEP_TOKEN", false); !errors.Is(err, errNotAToken) || strings.Contains(err.Error(), "word") {
		t.Errorf("not a token: %v", err)
	}
}

// TestFile: a replaced file, a file written in place and a changed link take effect at
// the next call; a file that disappears is an error.
func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := filepath.Join(dir, "token")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	first, second, third := jwt("first", time.Unix(2e9, 0)), jwt("second", time.Unix(2e9, 0)), jwt("third", time.Unix(2e9, 0))
	if _, err := File(name); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("a missing file: %v", err)
	}
	write(name, first)
	s, err := File(name)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		if got, err := s.Token(t.Context()); err != nil || got.Reveal() != want {
			t.Fatalf("%v, expected another token", err)
		}
	}
	expect(first)
	write(name+".new", second)
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
	expect(second)
	write(name, third+" ") // another size
	expect(third)
	write(name+".linked", first)
	if err := errors.Join(os.Remove(name), os.Symlink(name+".linked", name)); err != nil {
		t.Fatal(err)
	}
	expect(first)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Token(t.Context()); err == nil || !got.IsZero() {
		t.Error("the token of a removed file is still used")
	}
	if _, err := File(dir); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
}

// script is a command that runs a shell script.
func script(t *testing.T, text string, change func(*CommandConfig)) (*command, *bytes.Buffer) {
	t.Helper()
	stderr := &bytes.Buffer{}
	c := CommandConfig{Args: []string{"/bin/sh", "-c", text}, Stderr: stderr}
	if change != nil {
		change(&c)
	}
	s, err := Command(c)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*command), stderr
}

// TestCommand: standard error is passed on without the token, and errors have it.
func TestCommand(t *testing.T) {
	t.Parallel()
	secret := jwt("a", time.Now().Add(time.Hour))
	s, stderr := script(t, "echo warning about "+secret+" >&2; echo "+secret, nil)
	got, err := s.Token(t.Context())
	if err != nil || got.Reveal() != secret {
		t.Fatalf("%v", err)
	}
	if text := stderr.String(); text != "warning about [token]\n" {
		t.Errorf("standard error %q", text)
	}
	for text, want := range map[string]string{
		"echo no network >&2; exit 3":                                 `exit status 3: its standard error: "no network"`,
		"echo " + secret + "; echo leaked " + secret + " >&2; exit 1": `"leaked [token]"`,
		"echo two words":                        "not a token",
		"true":                                  "empty",
		"head -c 100000 /dev/zero | tr '\\0' a": "more than 16 KiB",
		"kill -9 $$":                            "killed: its standard error is empty",
	} {
		s, _ := script(t, text, nil)
		_, err := s.Token(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%.30q: %v", text, err)
		}
	}
	if _, err := Command(CommandConfig{}); err == nil {
		t.Error("an empty command was accepted")
	}
}

// TestCommandTimeout: a command with a child that holds the output open ends at its
// timeout, together with the child.
func TestCommandTimeout(t *testing.T) {
	t.Parallel()
	s, _ := script(t, "sleep 1000 & sleep 1000", func(c *CommandConfig) { c.Timeout = 100 * time.Millisecond })
	if _, err := s.Token(t.Context()); err == nil || !strings.Contains(err.Error(), "not finished after 100ms") {
		t.Errorf("error: %v", err)
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	s, _ = script(t, "sleep 1000", func(c *CommandConfig) { c.Timeout = 100 * time.Millisecond })
	if _, err := s.Token(canceled); !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

// TestCommandRenewal: the command runs again before the token expires, one run serves
// all callers, and a failing command leaves a valid token in use.
func TestCommandRenewal(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	base := time.Unix(1_900_000_000, 0)
	first, second := jwt("first", base.Add(time.Hour)), jwt("second", base.Add(2*time.Hour))
	s, _ := script(t, "echo run >> "+file+".runs; cat "+file, nil)
	var mu sync.Mutex
	now := base
	s.now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	set := func(d time.Duration) { mu.Lock(); defer mu.Unlock(); now = base.Add(d) }
	runs := func() int { b, _ := os.ReadFile(file + ".runs"); return bytes.Count(b, []byte("run")) }
	token := func() string {
		got, err := s.Token(t.Context())
		if err != nil {
			return "error: " + err.Error()
		}
		return got.Reveal()
	}
	idle := func() {
		s.mu.Lock()
		r := s.running
		s.mu.Unlock()
		if r != nil {
			<-r.done
		}
	}

	write(first)
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			if got := token(); got != first {
				t.Errorf("token %q", got)
			}
		})
	}
	callers.Wait()
	set(58 * time.Minute)
	if got := token(); got != first || runs() != 1 {
		t.Fatalf("%q after %d runs", got, runs())
	}
	write("")
	set(59*time.Minute + time.Second)
	if got := token(); got != first {
		t.Fatalf("a valid token was not used during the next run: %q", got)
	}
	idle()
	if got := token(); got != first || runs() != 2 {
		t.Fatalf("%q after %d runs", got, runs())
	}
	set(time.Hour + time.Second)
	if got := token(); !strings.HasPrefix(got, "error: ") {
		t.Fatalf("an expired token was used")
	}
	idle()
	write(second)
	set(time.Hour + time.Minute)
	if got := token(); got != second {
		t.Fatalf("token %q", got)
	}
	refused, _ := Parse(first)
	if got, err := s.Renew(t.Context(), refused); err != nil || got.Reveal() != second {
		t.Errorf("a newer token was not used: %v", err)
	}
}

// TestRenewal: the time of the next run depends on the remaining lifetime.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		for lifetime, want := range map[time.Duration]time.Duration{
			0: unknownAge, time.Hour: 59 * time.Minute, 100 * time.Second: 80 * time.Second, -time.Hour: -time.Hour,
		} {
			var token Token
			if lifetime != 0 {
				token.Expires = now.Add(lifetime)
			}
			if got := renewal(token, now).Sub(now); got != want {
				t.Errorf("%v: %v, want %v", lifetime, got, want)
			}
		}
	})
}

// FuzzParse: a token is one word of a header field, and its expiry has a year of four
// digits.
func FuzzParse(f *testing.F) {
	f.Add(jwt("a", time.Unix(2e9, 0)))
	f.Add("a.eyJleHAiOjFlOTl9.c")
	f.Add(" x\r\ny ")
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse(text)
		if err != nil {
			if !got.IsZero() || len(text) > 20 && strings.Contains(err.Error(), text) {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if s := got.Reveal(); s == "" || len(s) > MaxBytes || strings.ContainsAny(s, " \t\r\n\x00") {
			t.Fatalf("%q", s)
		}
		if !got.Expires.IsZero() && (got.Expires.Year() < 1970 || got.Expires.UTC().Year() > 9999) {
			t.Fatalf("%q: %v", text, got.Expires)
		}
	})
}
