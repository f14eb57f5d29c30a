package identity_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/identity"
)

const secret = "eyJhbGciOiJSUzI1NiJ9.c2VjcmV0LXBheWxvYWQ.c2lnbmF0dXJl"

func basic(s string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(s)) }

func TestParseCredential(t *testing.T) {
	rawBasic := func(s string) string { return "Basic " + base64.RawStdEncoding.EncodeToString([]byte(s)) }
	tests := []struct {
		name, source, field, token string
		problem                    identity.Problem
	}{
		{"basic", "RFC 7617 section 2", basic("step:" + secret), secret, ""},
		{"basic, scheme in another case", "RFC 9110 section 11.1", "bASIC" + basic("step:" + secret)[5:], secret, ""},
		{"basic, empty name", "RFC 7617 section 2", basic(":" + secret), secret, ""},
		{"basic, without padding", "seen of clients", rawBasic("jwt:" + secret), secret, ""},
		{"basic, several spaces", "RFC 9110 section 11.4: 1*SP", "Basic   " + basic("s:" + secret)[6:], secret, ""},
		{"bearer", "RFC 6750 section 2.1", "Bearer " + secret, secret, ""},
		{"bearer, lower case", "RFC 9110 section 11.1", "bearer " + secret, secret, ""},
		{"bearer, token68 with padding", "RFC 9110 section 11.2", "Bearer abc==", "abc==", ""},

		{"nothing", "RFC 9110 section 11.7.2", "", "", identity.CredentialMissing},
		{"scheme alone", "RFC 9110 section 11.4", "Bearer", "", identity.CredentialMalformed},
		{"scheme and space", "RFC 9110 section 11.4", "Bearer ", "", identity.CredentialMalformed},
		{"only spaces", "RFC 9110 section 11.4", "   ", "", identity.CredentialMalformed},
		{"another scheme", "RFC 9110 section 11.1", "Digest username=x", "", identity.CredentialMalformed},
		{"negotiate", "RFC 4559", "Negotiate YII=", "", identity.CredentialMalformed},
		{"bare token", "RFC 9110 section 11.4", secret, "", identity.CredentialMalformed},
		{"tab for space", "RFC 9110 section 11.4: SP only", "Bearer\t" + secret, "", identity.CredentialMalformed},
		{"bearer with parameters", "RFC 6750 section 2.1", "Bearer token=" + secret, "", identity.CredentialMalformed},
		{"bearer of padding alone", "RFC 9110 section 11.2", "Bearer ==", "", identity.CredentialMalformed},
		{"bearer with a space in it", "RFC 9110 section 11.2", "Bearer abc def", "", identity.CredentialMalformed},
		{"bearer with a NUL", "RFC 9110 section 11.2", "Bearer abc\x00def", "", identity.CredentialMalformed},
		{"bearer not ASCII", "RFC 9110 section 11.2", "Bearer abcé", "", identity.CredentialMalformed},
		{"basic, not base64", "RFC 7617 section 2", "Basic ???", "", identity.CredentialMalformed},
		{"basic, base64url", "RFC 7617 section 2", "Basic __-_", "", identity.CredentialMalformed},
		{"basic, stray bits", "RFC 4648 section 3.5", "Basic czph", "a", ""},
		{"basic, stray bits at the end", "RFC 4648 section 3.5", "Basic czphYR==", "", identity.CredentialMalformed},
		{"basic, folded", "RFC 9112 section 5.2", "Basic czp\r\n hYQ==", "", identity.CredentialMalformed},
		{"basic, no colon", "RFC 7617 section 2", basic(secret), "", identity.CredentialMalformed},
		{"basic, user alone", "clients that drop an empty password", basic(secret + ":"), "", identity.CredentialMalformed},
		{"basic, a colon in the password", "a token has none", basic("step:a:b"), "", identity.CredentialMalformed},
		{"basic, a NUL in the password", "a token has none", basic("step:a\x00b"), "", identity.CredentialMalformed},
		{"basic, unset variable", "$BITBUCKET_STEP_OIDC_TOKEN was empty", basic("step:"), "", identity.CredentialMalformed},
		{"list", "RFC 9110 section 11.6.3: one credential", "Bearer " + secret + ", Bearer other", "", identity.CredentialAmbiguous},
		{"list of basic", "RFC 9110 section 11.6.3", basic("a:b") + "," + basic("c:d"), "", identity.CredentialAmbiguous},
		{"too large", "bounded head", "Bearer " + strings.Repeat("a", identity.MaxCredentialBytes), "", identity.CredentialTooLarge},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := identity.ParseCredential(test.field)
			if test.problem == "" {
				if err != nil || c.Reveal() != test.token || c.IsZero() {
					t.Fatalf("%s: got %q, %v; want %q", test.source, c.Reveal(), err, test.token)
				}
				return
			}
			e, ok := errors.AsType[*identity.Error](err)
			if !ok || e.Problem != test.problem || !c.IsZero() {
				t.Fatalf("%s: got %v, want %s", test.source, err, test.problem)
			}
			if e.Detail == "" || strings.Contains(e.Error(), secret) {
				t.Errorf("the error says %q", e.Error())
			}
		})
	}
}

// TestPasswordThatIsNotAToken: the usual mistakes are named, each with its remedy,
// and none is quoted.
func TestPasswordThatIsNotAToken(t *testing.T) {
	for password, want := range map[string]string{
		"$BITBUCKET_STEP_OIDC_TOKEN":                "use double quotes",
		"${BITBUCKET_STEP_OIDC_TOKEN}":              "use double quotes",
		"%24BITBUCKET_STEP_OIDC_TOKEN":              "use double quotes",
		"{b234a1b8-ba91-4cc3-84e9-2a02f7496839}":    "only $BITBUCKET_STEP_OIDC_TOKEN",
		`"` + secret + `"`:                          "leave them out",
		"'" + secret + "'":                          "leave them out",
		secret + "\n":                               "line end",
		secret + "\r\n":                             "line end",
		" " + secret:                                "white space",
		"Bearer " + secret:                          `leave out the word "Bearer"`,
		"bearer " + secret:                          `leave out the word "Bearer"`,
		"step:" + secret:                            "with one colon",
		strings.ReplaceAll(secret, ".", "%2E"):      "needs none",
		strings.ReplaceAll(secret, ".", "\x00\x01"): "is not a token",
	} {
		_, err := identity.ParseCredential(basic("step:" + password))
		e, ok := errors.AsType[*identity.Error](err)
		if !ok || e.Problem != identity.CredentialMalformed || !strings.Contains(e.Detail, want) || strings.Contains(e.Detail, "c2VjcmV0") {
			t.Errorf("%q: %v, want %q", password, err, want)
		}
	}
}

// FuzzParseCredential holds that what is accepted means one thing, also to
// net/http, and that what is refused is not repeated.
func FuzzParseCredential(f *testing.F) {
	for _, s := range []string{"", "Bearer " + secret, basic("step:" + secret), "Basic czphYR==", "Basic czph\nYQ==",
		"Bearer a, Bearer b", "bearer  x", "Basic  Onh4", "Basic czp4 ", "Digest x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, field string) {
		c, err := identity.ParseCredential(field)
		if err != nil {
			e, ok := errors.AsType[*identity.Error](err)
			if !ok || e.Problem == "" || e.Detail == "" || e.Problem.Unavailable() {
				t.Fatalf("refused with %#v", err)
			}
			if _, value, _ := strings.Cut(field, " "); len(value) > 12 && strings.Contains(err.Error(), value) {
				t.Fatalf("the error repeats the value: %v", err)
			}
			if !c.IsZero() || c.Reveal() != "" {
				t.Fatal("refused, and yet a credential came back")
			}
			return
		}
		token := c.Reveal()
		if token == "" || c.IsZero() || strings.ContainsAny(token, " ,:\r\n\x00") {
			t.Fatalf("accepted %q", token)
		}
		again, err := identity.ParseCredential("Bearer " + token)
		if err != nil || again.Reveal() != token {
			t.Fatalf("the token %q is not one by itself: %v", token, err)
		}
		if c.Digest() != sha256.Sum256([]byte(token)) {
			t.Fatal("the digest is not SHA-256 of the token")
		}
		scheme, value, _ := strings.Cut(field, " ")
		if !strings.EqualFold(scheme, "Basic") {
			return
		}
		// net/http wants the padding and exactly one space.
		value = strings.Trim(value, " ")
		if len(value)%4 != 0 {
			value += strings.Repeat("=", 4-len(value)%4)
		}
		r := http.Request{Header: http.Header{"Authorization": {"Basic " + value}}}
		if _, password, ok := r.BasicAuth(); !ok || password != token {
			t.Fatalf("net/http reads %q, %v where we read %q", password, ok, token)
		}
	})
}

type nested struct {
	Shown  identity.Credential
	hidden identity.Credential // fmt prints it by reflection
	Map    map[string]identity.Credential
	List   []identity.Credential
	Ptr    *identity.Credential
	Any    any
}

func everywhere(c identity.Credential) nested {
	return nested{c, c, map[string]identity.Credential{"k": c}, []identity.Credential{c}, &c, c}
}

// TestCredentialIsNeverPrinted goes through every formatter that a credential
// may meet by accident.
func TestCredentialIsNeverPrinted(t *testing.T) {
	c := identity.NewCredential(secret)
	// Spellings of the token that a verb may produce.
	forms := []string{secret, "secret-payload", "c2VjcmV0",
		fmt.Sprintf("%x", secret)[:40], fmt.Sprintf("%X", secret)[:40], fmt.Sprintf("%v", []byte(secret))[1:40]}
	check := func(how, out string) {
		t.Helper()
		for _, f := range forms {
			if strings.Contains(out, f) {
				t.Errorf("%s: printed the token: %s", how, out)
			}
		}
	}
	values := map[string]any{"value": c, "pointer": &c, "struct": everywhere(c), "pointer to struct": new(everywhere(c)),
		"slice": []identity.Credential{c}, "map": map[string]any{"c": c}, "struct{c}": struct{ c identity.Credential }{c}}
	for name, v := range values {
		for verb := rune('A'); verb <= 'z'; verb++ {
			for _, flags := range []string{"", "+", "#", " ", "0", "-", "20.3", "+#"} {
				format := "%" + flags + string(verb)
				check(name+" "+format, fmt.Sprintf(format, v))
			}
		}
		check(name+" Sprint", fmt.Sprint(v))
		check(name+" Errorf", fmt.Errorf("about %v: %w", v, errors.New("x")).Error())
		var b bytes.Buffer
		log.New(&b, "", 0).Println(v)
		slog.New(slog.NewTextHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		slog.New(slog.NewJSONHandler(&b, nil)).Info("m", "v", v, slog.Group("g", "v", v))
		check(name+" logs", b.String())
		j, err := json.Marshal(v)
		if err != nil {
			t.Errorf("%s: JSON: %v", name, err)
		}
		check(name+" JSON", string(j))
		x, _ := xml.Marshal(v) // maps have no XML
		check(name+" XML", string(x))
	}
	check("String", c.String())
	check("GoString", c.GoString())
	text, err := c.MarshalText()
	if err != nil {
		t.Error(err)
	}
	check("MarshalText", string(text))
	func() {
		defer func() { check("panic", fmt.Sprint(recover())) }()
		panic(c)
	}()
	if got := fmt.Sprintf("%v %s %q %+v %#v %d %x", c, c, c, c, c, c, c); strings.Count(got, "[credential]") != 7 {
		t.Errorf("placeholder is missing: %s", got)
	}
}

// TestPlainStringWouldLeak shows that the check above is needed: a field of type
// string, and a type with all the right methods but a string inside, both leak.
func TestPlainStringWouldLeak(t *testing.T) {
	type holder struct{ c naive }
	if out := fmt.Sprintf("%+v", holder{naive{secret}}); !strings.Contains(out, secret) {
		t.Errorf("fmt no longer prints the inside of unexported fields: %s", out)
	}
}

type naive struct{ token string }

func (naive) String() string             { return "[credential]" }
func (naive) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[credential]")) }

func TestZeroCredential(t *testing.T) {
	var c identity.Credential
	if !c.IsZero() || c.Reveal() != "" || !identity.NewCredential("").IsZero() {
		t.Error("the zero value is a credential")
	}
	if c.Digest() != sha256.Sum256(nil) {
		t.Error("digest of nothing")
	}
}

func TestError(t *testing.T) {
	inner := errors.New("inner")
	e := &identity.Error{Problem: identity.CredentialExpired, Detail: "over", Err: inner}
	if !errors.Is(e, inner) || e.Error() != "credential_expired: over: inner" {
		t.Errorf("got %v", e)
	}
	if got := (&identity.Error{Problem: identity.CredentialMissing, Detail: "none"}).Error(); got != "credential_missing: none" {
		t.Errorf("got %q", got)
	}
	for p, want := range map[identity.Problem]bool{
		identity.KeysUnavailable: true, identity.NamesUnavailable: true,
		identity.CredentialExpired: false, identity.CredentialRevoked: false, "": false,
	} {
		if p.Unavailable() != want {
			t.Errorf("%s: Unavailable is %v", p, !want)
		}
	}
}
