package upstream

import (
	"bytes"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/sallyport/sallyport/step/token"
)

// keptRefusal is how long the refusal of an expired token is given again.
const keptRefusal = 15 * time.Second

// expired remembers the refusal of an expired token for some seconds, for each request with
// this token, whatever its target: apt, yarn and pip repeat a refused request, and apt
// requests thirty files at once. Another token is sent at once. The zero value is ready. It
// is safe for concurrent use.
type expired struct {
	mu      sync.Mutex
	token   token.Token
	refusal *Refusal
	until   time.Time
}

// recall returns the refusal of a token; nil: none.
func (e *expired) recall(t token.Token, now time.Time) *Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.refusal == nil || !now.Before(e.until) || !e.token.Same(t) {
		return nil
	}
	return e.refusal
}

// remember keeps a refusal if its cause is that the token has expired.
func (e *expired) remember(t token.Token, r *Refusal, now time.Time) {
	if !r.IsExpired() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.token, e.refusal, e.until = t, r, now.Add(keptRefusal)
}

// IsExpired reports whether the token has expired.
func (r *Refusal) IsExpired() bool { return r != nil && r.Reason == reasonExpired }

// reasonExpired is a reason of docs/reasons.md.
const reasonExpired = "credential_expired"

// RefusedError is the refusal of a request that was not sent again, because its token has
// expired.
type RefusedError struct{ *Refusal }

func (e *RefusedError) Error() string { return "upstream: the proxy refused the token: " + e.Reason }

// readRefusal parses the refusal in a response, and leaves the text to read again.
func readRefusal(resp *http.Response) *Refusal {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxRefusalText))
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return ParseRefusal(resp.StatusCode, resp.Header, string(text))
}
