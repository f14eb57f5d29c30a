package frontend

import (
	"cmp"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// How much of a refusal's parts is shown.
const (
	maxShown     = 512
	maxRuleShown = 128
)

// appendRefusal writes the response to a request that is not admitted. The reason is in
// the status line, because most clients show nothing else of a failed CONNECT; in
// Proxy-Status (RFC 9209) and fields of our own, for programs; and in one line of text,
// for people. Every value is made printable ASCII first.
//
// The connection ends after it: what a client sent behind a refused CONNECT must never be
// read as a request.
func appendRefusal(b []byte, r *proxy.Refusal, to answerTo) []byte {
	reason := plain(string(r.Reason), maxRuleShown)
	id := plain(r.DecisionID, maxRuleShown)
	rule := plain(r.Rule, maxRuleShown)
	text := refusalText(r, reason, rule, id, to.secure)

	b = append(b, "HTTP/1."...)
	b = strconv.AppendInt(b, int64(to.minor), 10)
	b = append(b, ' ')
	b = strconv.AppendInt(b, int64(r.Status), 10)
	b = append(b, " Sallyport "...)
	b = append(b, reason...)
	if to.server != "" {
		b = append(b, "\r\nProxy-Status: "...)
		b = append(b, to.server...)
		b = append(b, "; error="...)
		b = append(b, r.ProxyError()...)
		b = append(b, "; details="...)
		b = appendString(b, reason)
	}
	b = appendField(b, "Sallyport-Reason", reason)
	if id != "" {
		b = appendField(b, "Sallyport-Decision", id)
	}
	if rule != "" && rule == r.Rule {
		b = appendField(b, "Sallyport-Rule", rule)
	}
	switch r.Status {
	case 407:
		// RFC 9110 section 15.5.8: a 407 names a challenge. A client that presented a
		// bad token gets RFC 6750's (section 3.1): Java would repeat a Basic credential
		// twenty times.
		if r.Reason == policy.CredentialMissing {
			b = append(b, "\r\nProxy-Authenticate: Basic realm=\"sallyport\""...)
		} else {
			b = append(b, "\r\nProxy-Authenticate: Bearer realm=\"sallyport\", error=\"invalid_token\""...)
		}
	case 401:
		b = append(b, "\r\nWWW-Authenticate: Basic realm=\"sallyport\", Bearer realm=\"sallyport\""...)
	case 405:
		b = appendField(b, "Allow", cmp.Or(r.Allow, "GET, HEAD"))
	}
	if r.RetryAfter > 0 {
		b = append(b, "\r\nRetry-After: "...)
		b = strconv.AppendInt(b, int64((r.RetryAfter+time.Second-1)/time.Second), 10)
	}
	b = append(b, "\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(text)), 10)
	b = append(b, "\r\n\r\n"...)
	if to.head {
		return b
	}
	return append(b, text...)
}

// answerTo has what the response to a refused request depends on, besides the refusal.
type answerTo struct {
	server string // this proxy's name in Proxy-Status; "": no such field
	minor  int    // the request's HTTP/1 minor version
	head   bool   // the request is a HEAD: the answer has no content
	secure bool   // the listener speaks TLS: a proxy URL begins with https://
}

// refusalText is the one line for people: what, why, and what to do next.
func refusalText(r *proxy.Refusal, reason, rule, id string, secure bool) string {
	var t strings.Builder
	t.WriteString("sallyport: " + reason)
	for _, s := range []string{r.Message, r.Detail} {
		if s != "" {
			t.WriteString(": " + plain(s, maxShown))
		}
	}
	switch {
	case rule != "" && id != "":
		t.WriteString(" (rule " + rule + ", decision " + id + ")")
	case rule != "":
		t.WriteString(" (rule " + rule + ")")
	case id != "":
		t.WriteString(" (decision " + id + ")")
	}
	t.WriteString(". What to do: " + plain(r.Next(secure), maxShown) + ".\n")
	return t.String()
}

func appendField(b []byte, name, value string) []byte {
	b = append(b, "\r\n"...)
	b = append(b, name...)
	b = append(b, ": "...)
	return append(b, value...)
}

// appendString writes an sf-string (RFC 9651 section 3.3.3) of printable ASCII.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := range len(s) {
		if s[i] == '"' || s[i] == '\\' {
			b = append(b, '\\')
		}
		b = append(b, s[i])
	}
	return append(b, '"')
}

// plain returns s as printable ASCII of at most limit bytes, for status lines, header
// fields and terminals.
func plain(s string, limit int) string {
	clean := len(s) <= limit
	for i := 0; clean && i < len(s); i++ {
		clean = 0x20 <= s[i] && s[i] < 0x7f
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if r < 0x20 || r >= 0x7f {
			r = '?'
		}
		if b.Len()+4 > limit {
			b.WriteString("...")
			break
		}
		b.WriteByte(byte(r))
	}
	return b.String()
}

func malformed(detail string) *proxy.Refusal {
	return proxy.NewRefusal(policy.RequestInvalid, detail)
}
