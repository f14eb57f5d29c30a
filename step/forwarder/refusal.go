package forwarder

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// Refusal is one request that was not passed on, by Sallyport or by this forwarder.
type Refusal struct {
	upstream.Refusal
	Time    time.Time
	Action  string // connect, request or actionConnection
	Method  string // of a request
	Target  string // host:port of a CONNECT; the URL of a request, without its query
	Repeats int    // how often the same refusal was given again
}

// actionConnection is the action of a connection that is refused as a whole.
const actionConnection = "connection"

// Bounds of the parts that are shown.
const (
	maxShownTarget = 300
	maxShownText   = 600
	maxShownName   = 128
)

// Line returns the refusal as one line of printable ASCII for the build log, with its
// line end. Characters that could change the terminal or begin another line are escaped.
func (r Refusal) Line() string { return "sallyport: " + r.text() + "\n" }

// text is the line without its beginning and end.
func (r Refusal) text() string {
	var b strings.Builder
	b.WriteString("denied ")
	if r.Method != "" {
		b.WriteString(escape(r.Method, maxShownName) + " ")
	}
	b.WriteString(escape(r.Target, maxShownTarget) + ": " + escape(r.Reason, maxShownName))
	if r.Message != "" {
		b.WriteString(": " + escape(r.Message, maxShownText))
	}
	if r.Rule != "" {
		b.WriteString("; rule " + escape(r.Rule, maxShownName))
	}
	if r.DecisionID != "" {
		b.WriteString("; decision " + escape(r.DecisionID, maxShownName))
	}
	if r.Next != "" {
		b.WriteString("; to do: " + escape(r.Next, maxShownText))
	}
	return b.String()
}

// escape returns s as printable ASCII of at most about limit bytes.
func escape(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "..."
	}
	quoted := strconv.QuoteToASCII(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// local returns a refusal of the forwarder itself.
func local(status int, reason, message, next string) *upstream.Refusal {
	return &upstream.Refusal{Status: status, Reason: reason, Message: message, Next: next}
}

// failure returns the refusal for an error of the upstream client. A missing token is 403,
// as an invalid one is: no tool prompts for or repeats a 403.
func failure(err error) *upstream.Refusal {
	switch {
	case errors.Is(err, upstream.ErrTarget):
		return local(http.StatusBadRequest, targetInvalid, "the target is not host:port in printable ASCII", "correct the URL")
	case errors.Is(err, upstream.ErrToken):
		return local(http.StatusForbidden, tokenUnavailable, strings.TrimPrefix(err.Error(), upstream.ErrToken.Error()+": "), "check the source of the step's token")
	}
	return local(http.StatusBadGateway, proxyUnreachable, err.Error(), "check that Sallyport runs and can be reached from the step; sallyport-step doctor checks each part")
}

// final returns a refusal as the tool receives it. A 407 becomes 403: a tool that has no
// credential for the proxy must not ask for one, and must not repeat the request.
func final(r *upstream.Refusal) *upstream.Refusal {
	if r.Status != http.StatusProxyAuthRequired {
		return r
	}
	changed := *r
	changed.Status = http.StatusForbidden
	return &changed
}

// answer is a refusal as a complete response, after which the connection ends. The reason
// is in the status line, as Sallyport writes it: most tools show nothing else.
func answer(r *upstream.Refusal) []byte {
	text := refusalText(r)
	b := fmt.Appendf(nil, "HTTP/1.1 %d Sallyport %s\r\n", r.Status, escape(r.Reason, maxShownName))
	for name, values := range refusalHeader(r, text) {
		b = fmt.Appendf(b, "%s: %s\r\n", name, values[0])
	}
	return append(append(b, "Connection: close\r\n\r\n"...), text...)
}

func refusalHeader(r *upstream.Refusal, text string) http.Header {
	h := http.Header{
		"Content-Type":     {"text/plain; charset=utf-8"},
		"Content-Length":   {strconv.Itoa(len(text))},
		"Cache-Control":    {"no-store"},
		"Sallyport-Reason": {escape(r.Reason, maxShownName)},
	}
	for name, value := range map[string]string{"Sallyport-Decision": r.DecisionID, "Sallyport-Rule": r.Rule, "Retry-After": r.RetryAfter} {
		if value != "" {
			h[name] = []string{escape(value, maxShownName)}
		}
	}
	return h
}

func refusalText(r *upstream.Refusal) string {
	text := "sallyport: " + escape(r.Reason, maxShownName)
	if r.Message != "" {
		text += ": " + escape(r.Message, maxShownText)
	}
	var names []string
	if r.Rule != "" {
		names = append(names, "rule "+escape(r.Rule, maxShownName))
	}
	if r.DecisionID != "" {
		names = append(names, "decision "+escape(r.DecisionID, maxShownName))
	}
	if len(names) > 0 {
		text += " (" + strings.Join(names, ", ") + ")"
	}
	if r.Next != "" {
		text += ". What to do: " + escape(r.Next, maxShownText)
	}
	return text + ".\n"
}
