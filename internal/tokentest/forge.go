package tokentest

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// Claims are those of a good token of Step.
func (f *Forge) Claims() map[string]any {
	return f.Step.Claims(bitbuckettest.TokenOptions{Audiences: []string{Audience}})
}

// Sign signs claims with the workspace's own key.
func (f *Forge) Sign(c map[string]any) string { return f.Workspace.Key().Sign(nil, c) }

// With returns a maker of tokens with changed claims: names and values in turn;
// a nil value takes the claim away.
func With(pairs ...any) func(*Forge) string {
	return func(f *Forge) string {
		c := f.Claims()
		for i := 0; i < len(pairs); i += 2 {
			name, value := pairs[i].(string), pairs[i+1]
			if late, ok := value.(func(*Forge) any); ok {
				value = late(f)
			}
			if c[name] = value; value == nil {
				delete(c, name)
			}
		}
		return f.Sign(c)
	}
}

// At is a claim's time, so long after now.
func At(d time.Duration) func(*Forge) any {
	return func(f *Forge) any { return f.Now.Add(d).Unix() }
}

// literal is JSON that encoding/json would not write.
func literal(s string) json.RawMessage { return json.RawMessage(s) }

// header returns a maker of good claims under a changed header.
func header(pairs ...any) func(*Forge) string {
	return func(f *Forge) string {
		h := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			h[pairs[i].(string)] = pairs[i+1]
		}
		return f.Workspace.Key().Sign(h, f.Claims())
	}
}

// payload returns a maker of tokens whose payload is edited as text and then
// signed by the true key.
func payload(edit func(*Forge, string) string) func(*Forge) string {
	return func(f *Forge) string {
		text, err := json.Marshal(f.Claims())
		if err != nil {
			panic(err)
		}
		return f.Workspace.Key().SignRaw("", []byte(f.header()), []byte(edit(f, string(text))))
	}
}

func (f *Forge) header() string {
	return fmt.Sprintf(`{"alg":"RS256","kid":%q,"typ":"JWT"}`, f.Workspace.Key().ID)
}

// prepend puts a member before all others.
func prepend(member string) func(*Forge) string {
	return payload(func(_ *Forge, s string) string { return "{" + member + "," + s[1:] })
}

// appended puts a member behind all others.
func appended(member string) func(*Forge) string {
	return payload(func(_ *Forge, s string) string { return s[:len(s)-1] + "," + member + "}" })
}

// rawHeader signs good claims under a header given as text, in which KID stands
// for the key's id.
func rawHeader(text string) func(*Forge) string {
	return func(f *Forge) string {
		body, err := json.Marshal(f.Claims())
		if err != nil {
			panic(err)
		}
		return f.Workspace.Key().SignRaw("RS256", []byte(strings.ReplaceAll(text, "KID", f.Workspace.Key().ID)), body)
	}
}

// bent returns a maker that changes a good token after it was signed.
func bent(edit func(h, p, s string) string) func(*Forge) string {
	return func(f *Forge) string {
		parts := strings.Split(f.token(f.Step), ".")
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

// jsonForm is the flattened (RFC 7515 section 7.2.2) or general JSON
// serialization of a good token.
func jsonForm(general bool) func(*Forge) string {
	return bent(func(h, p, s string) string {
		if general {
			return fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p, h, s)
		}
		return fmt.Sprintf(`{"payload":%q,"protected":%q,"signature":%q}`, p, h, s)
	})
}
