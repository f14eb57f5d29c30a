package upstream

import (
	"net/http"
	"strings"
)

// Refusal is Sallyport's response to a request that it does not pass on. Its strings come
// from the network: escape them before they are printed.
type Refusal struct {
	Status     int    // 407 included
	Reason     string // of docs/reasons.md
	Message    string // what the rule's author or the server states; may be empty
	Rule       string // may be empty
	DecisionID string // may be empty
	Next       string // what to do; may be empty
	RetryAfter string // the field's value; may be empty
}

// maxRefusalText bounds the text that is read of a refusal.
const maxRefusalText = 4 << 10

// IsRefusal reports whether a response is Sallyport's own. Sallyport removes the field
// from the responses of targets.
func IsRefusal(h http.Header) bool { return h.Get("Sallyport-Reason") != "" }

// ParseRefusal reads a refusal from its response and the text of its content.
func ParseRefusal(status int, h http.Header, text string) *Refusal {
	r := &Refusal{
		Status: status, Reason: h.Get("Sallyport-Reason"), Rule: h.Get("Sallyport-Rule"),
		DecisionID: h.Get("Sallyport-Decision"), RetryAfter: h.Get("Retry-After"),
	}
	// sallyport: REASON: MESSAGE (rule R, decision D). What to do: NEXT.
	text = strings.TrimSpace(text)
	text, r.Next, _ = cutLast(text, ". What to do: ")
	r.Next = strings.TrimSuffix(r.Next, ".")
	text = strings.TrimPrefix(strings.TrimPrefix(text, "sallyport: "), r.Reason)
	if r.Rule != "" || r.DecisionID != "" {
		text, _, _ = cutLast(text, " (")
	}
	r.Message = strings.TrimPrefix(text, ": ")
	return r
}

// ByPolicy reports whether the policy decided, so that the same request would get the same
// response again.
func (r *Refusal) ByPolicy() bool {
	return r.Status == http.StatusForbidden && (r.Reason == "policy_denied" || r.Reason == "no_rule_matched")
}

func cutLast(s, separator string) (before, after string, found bool) {
	if i := strings.LastIndex(s, separator); i >= 0 {
		return s[:i], s[i+len(separator):], true
	}
	return s, "", false
}
