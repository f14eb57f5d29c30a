package bitbucket

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	bb "github.com/sallyport/sallyport/internal/bitbuckettest"
)

// row is one odd or hostile token: what makes it so, who says so, which check
// sees it first and what the answer is. Without a problem it is accepted.
type row struct {
	name, source string
	check        check
	problem      identity.Problem
	make         func(*forge) string
}

// forge makes tokens out of a good one.
type forge struct {
	*house
	other    *bb.Workspace // a workspace that is not configured
	stranger *bb.Key       // published nowhere
	es256    *bb.Key       // published, of another algorithm
	now      time.Time
}

func newForge(h *house) *forge {
	f := &forge{house: h, other: h.server.AddWorkspace("evil"), stranger: h.server.NewKey("", "RS256"),
		es256: h.server.NewKey("", "ES256"), now: time.Now()}
	h.acme.Publish(f.es256)
	return f
}

func (f *forge) claims() map[string]any {
	return f.step.Claims(bb.TokenOptions{Audiences: []string{audience}})
}

func (f *forge) sign(c map[string]any) string { return f.acme.Key().Sign(nil, c) }

// with returns a maker of tokens with changed claims: names and values in turn;
// a nil value takes the claim away.
func with(pairs ...any) func(*forge) string {
	return func(f *forge) string {
		c := f.claims()
		for i := 0; i < len(pairs); i += 2 {
			name, value := pairs[i].(string), pairs[i+1]
			if late, ok := value.(func(*forge) any); ok {
				value = late(f)
			}
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
		return f.sign(c)
	}
}

// at is a claim's time, so long after now.
func at(d time.Duration) func(*forge) any {
	return func(f *forge) any { return f.now.Add(d).Unix() }
}

// literal is JSON that encoding/json would not write.
func literal(s string) json.RawMessage { return json.RawMessage(s) }

// header returns a maker of good claims under a changed header.
func header(pairs ...any) func(*forge) string {
	return func(f *forge) string {
		h := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i].(string)] = pairs[i+1]
		}
		return f.acme.Key().Sign(h, f.claims())
	}
}

// payload returns a maker of tokens whose payload is edited as text and then
// signed by the true key.
func payload(edit func(*forge, string) string) func(*forge) string {
	return func(f *forge) string {
		text, err := json.Marshal(f.claims())
		if err != nil {
			f.t.Fatal(err)
		}
		return f.acme.Key().SignRaw("", []byte(f.header()), []byte(edit(f, string(text))))
	}
}

func (f *forge) header() string {
	return fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT"}`, f.acme.Key().ID)
}

// prepend puts a member before all others.
func prepend(member string) func(*forge) string {
	return payload(func(_ *forge, s string) string { return "{" + member + "," + s[1:] })
}

// appended puts a member behind all others.
func appended(member string) func(*forge) string {
	return payload(func(_ *forge, s string) string { return s[:len(s)-1] + "," + member + "}" })
}

// rawHeader signs good claims under a header given as text, in which KID stands
// for the key's id.
func rawHeader(text string) func(*forge) string {
	return func(f *forge) string {
		body, err := json.Marshal(f.claims())
		if err != nil {
			f.t.Fatal(err)
		}
		return f.acme.Key().SignRaw("RS256", []byte(strings.ReplaceAll(text, "KID", f.acme.Key().ID)), body)
	}
}

// bent returns a maker that changes a good token after it was signed.
func bent(edit func(h, p, s string) string) func(*forge) string {
	return func(f *forge) string {
		parts := strings.Split(f.token(f.step), ".")
		return edit(parts[0], parts[1], parts[2])
	}
}

// strayBits makes another spelling of a segment whose last character carries
// bits that mean nothing.
func strayBits(segment string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, segment[len(segment)-1])
	return segment[:len(segment)-1] + string(alphabet[last|1])
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// jsonForm is the flattened (RFC 7515 section 7.2.2) or general JSON
// serialization of a good token.
func jsonForm(general bool) func(*forge) string {
	return bent(func(h, p, s string) string {
		if general {
			return fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p, h, s)
		}
		return fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, p, h, s)
	})
}
