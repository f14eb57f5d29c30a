package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

const (
	denialsPath    = "/denials"
	maxDenials     = 100              // shown
	denialsTimeout = 10 * time.Second // with the wait for a turn
)

// denialReads is how many reads of the log may be under way, and how often a step
// and a repository may read.
var denialReads = fair.Config{
	Step:         fair.Limit{Slots: 1, Rate: 2, Waiting: 4},
	Repository:   fair.Limit{Slots: 2, Rate: 10, Waiting: 32},
	Total:        fair.Limit{Slots: 8, Waiting: 128},
	Wait:         5 * time.Second,
	WaitForSlots: true,
}

// isDenials reports whether a request is for the resource by which a step reads
// its own refusals: curl and git show nothing of a refused CONNECT but its number.
// It is the one thing that this proxy answers as an origin server.
func (h *head) isDenials() bool {
	path, _, _ := strings.Cut(string(h.target), "?")
	return path == denialsPath
}

// denials answers with this step's own refusals. The connection ends behind it.
func (c *conn) denials(h *head) {
	form, refusal := denialsForm(h)
	var list []audit.Event
	if refusal == nil {
		list, refusal = c.readDenials(h)
	}
	if refusal != nil {
		c.refuseAsOrigin(refusal)
		return
	}
	c.server.denialsRead.Add(1)
	more := len(list) > maxDenials
	if more {
		list = list[:maxDenials]
	}
	slices.Reverse(list) // the newest last, where a terminal stands
	secure := c.listener.TLS != nil
	var content []byte
	if form == "json" {
		content = denialsJSON(list, more, secure)
	} else {
		content = denialsText(list, more, secure)
	}
	c.writeDenials(form, content, string(h.method) == http.MethodHead)
}

// denialsForm returns the requested form of the response, or the refusal of an invalid
// request.
func denialsForm(h *head) (form string, refusal *proxy.Refusal) {
	if m := string(h.method); m != http.MethodGet && m != http.MethodHead {
		r := malformed("this resource is read with GET")
		r.Status = http.StatusMethodNotAllowed
		return "", r
	}
	if h.body() {
		return "", malformed("a GET of " + denialsPath + " has a body")
	}
	_, query, _ := strings.Cut(string(h.target), "?")
	switch query {
	case "format=json":
		return "json", nil
	case "format=text":
		return "text", nil
	case "":
	default:
		return "", malformed("of a query, " + denialsPath + " knows format=text and format=json")
	}
	for _, f := range h.fields {
		if is(f.name, "accept") && acceptsJSON(string(f.value)) {
			return "json", nil
		}
	}
	return "text", nil
}

// acceptsJSON reports whether JSON is asked for by name (RFC 9110 section 12.5.1).
func acceptsJSON(accept string) bool {
	for member := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(member, ";")
		if strings.EqualFold(strings.Trim(kind, " \t"), "application/json") {
			return true
		}
	}
	return false
}

// readDenials finds out who asks and what the log has on that step.
func (c *conn) readDenials(h *head) ([]audit.Event, *proxy.Refusal) {
	s := c.server
	if s.config.Gate.Stopped() {
		return nil, proxy.NewRefusal(policy.EmergencyStop, "an operator activated the emergency stop")
	}
	credential, err := h.readOwnCredential()
	if err != nil {
		return nil, c.credentialRefusal(err)
	}
	ctx, cancel := context.WithTimeout(s.context, denialsTimeout)
	defer cancel()
	principal, err := s.config.Authenticator.Authenticate(identity.WithClient(ctx, host(c.client.Addr())), credential)
	if err == nil && (principal == nil || principal.Step.UUID == "") {
		err = errors.New("the authenticator returned no step")
	}
	if err != nil {
		s.config.Log.Debug("credential not accepted for reading denials", "error", err)
		return nil, c.credentialRefusal(err)
	}
	lease, err := s.reading.Acquire(ctx, fair.Subject{Issuer: principal.Issuer, Repository: principal.Repository.UUID, Step: principal.Step.UUID}, 0)
	if err != nil {
		return nil, overReads(err)
	}
	defer lease.Release()
	list, err := s.config.Denials.Denials(ctx, principal, maxDenials+1)
	if err != nil {
		s.config.Log.Warn("denials not read", "step_uuid", principal.Step.UUID, "error", err)
		return nil, proxy.NewRefusal(policy.AuditUnavailable, "the audit log cannot be read at the moment")
	}
	return list, nil
}

// overReads is the refusal where a read has to wait for too long. It is delayed for a
// step or repository that is over its own share, so that a loop without a pause costs
// little.
func overReads(err error) *proxy.Refusal {
	over, _ := errors.AsType[*fair.OverError](err)
	r := proxy.NewRefusal(policy.Overloaded, "too many steps read their refusals at the moment")
	switch {
	case over != nil && over.Level == fair.Step:
		r = proxy.NewRefusal(policy.StepLimit, "this step reads its refusals too often")
	case over != nil && over.Level == fair.Repository:
		r = proxy.NewRefusal(policy.RepositoryLimit, "the steps of this repository read their refusals too often")
	}
	r.Throttled = over != nil && over.Level != fair.Total
	return r
}

// readOwnCredential reads the credential of a request that is for this proxy
// itself: in Authorization, as for every origin server (RFC 9110 section
// 11.6.2), or in Proxy-Authorization, which a step has at hand. One of them.
func (h *head) readOwnCredential() (identity.Credential, error) {
	var own [][]byte
	for _, f := range h.fields {
		if is(f.name, "authorization") {
			own = append(own, f.value)
		}
	}
	switch {
	case len(own) > 1, len(own) == 1 && h.has.credential:
		return identity.Credential{}, &identity.Error{Problem: identity.CredentialAmbiguous, Detail: "there are two credentials: send Authorization or Proxy-Authorization"}
	case len(own) == 1:
		credential, err := identity.ParseCredential(string(own[0]))
		if e, ok := errors.AsType[*identity.Error](err); ok {
			// The words are those of the field by which the proxy is usually asked.
			err = &identity.Error{Problem: e.Problem, Detail: strings.ReplaceAll(e.Detail, "Proxy-Authorization", "Authorization")}
		}
		return credential, err
	}
	credential, err := h.readCredential()
	if err == nil && credential.IsZero() {
		err = &identity.Error{Problem: identity.CredentialMissing, Detail: "reading a step's refusals takes the step's token, as Authorization or Proxy-Authorization"}
	}
	return credential, err
}

// credentialRefusal is the response of an origin server: 401 where a proxy responds 407
// (RFC 9110 sections 15.5.2 and 15.5.8), because a client that gets a 407 would look for
// a proxy in front of this one.
func (c *conn) credentialRefusal(err error) *proxy.Refusal {
	e, ok := errors.AsType[*identity.Error](err)
	if !ok {
		return proxy.NewRefusal(policy.InternalError, "the credential could not be checked")
	}
	r := proxy.NewRefusal(policy.Reason(e.Problem), e.Detail)
	if r.Status == http.StatusProxyAuthRequired {
		r.Status = http.StatusUnauthorized
		r.Throttled = c.server.config.Gate.DelayRefusal(c.client.Addr())
	}
	return r
}

// refuseAsOrigin counts and answers. Without a name the refusal bears no
// Proxy-Status: an origin server must not send one (RFC 9209 section 2).
func (c *conn) refuseAsOrigin(r *proxy.Refusal) {
	c.server.config.Observer.Refused(c.listener.Name, r.Reason)
	c.answerAs(r, "")
}

// denial is one line of the JSON form.
type denial struct {
	Time     time.Time `json:"time"`
	Kind     string    `json:"kind"`             // refused or closed
	Status   int       `json:"status,omitempty"` // of a refusal
	Reason   string    `json:"reason"`           // of a refusal, or the close reason
	Message  string    `json:"message,omitempty"`
	Rule     string    `json:"rule,omitempty"`
	Decision string    `json:"decision_id"`
	Action   string    `json:"action"`
	Target   string    `json:"target"`
	Next     string    `json:"next"`
	// Repeats is how often it was refused again, under the same decision id.
	Repeats int64 `json:"repeats,omitempty"`
}

// The kinds of a denial.
const (
	kindRefused = "refused" // before a byte passed
	kindClosed  = "closed"  // an open tunnel or request, by this proxy
)

func denialOf(e *audit.Event, secure bool) denial {
	d := denial{Time: e.Time, Kind: kindRefused, Status: e.Status, Reason: e.Reason, Message: e.Message, Rule: e.Rule,
		Decision: e.DecisionID, Action: e.Action, Target: e.TargetRaw,
		Next: proxy.NewRefusal(policy.Reason(e.Reason), "").Next(secure)}
	if e.CloseReason != "" {
		explained, _ := proxy.Cause(e.CloseReason).Explain()
		d.Kind, d.Reason, d.Status, d.Next = kindClosed, e.CloseReason, 0, explained.Next
		if d.Message == "" {
			d.Message = explained.What
		}
	}
	for _, a := range e.Attributes {
		if a.Name == audit.Repeats {
			d.Repeats, _ = strconv.ParseInt(a.Value, 10, 64) // the log's own number
		}
	}
	if e.Host != "" {
		d.Target = net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port)))
	}
	return d
}

func denialsJSON(list []audit.Event, more, secure bool) []byte {
	answer := struct {
		Denials []denial `json:"denials"`
		More    bool     `json:"more"` // there are older ones
	}{make([]denial, len(list)), more}
	for i := range list {
		answer.Denials[i] = denialOf(&list[i], secure)
	}
	b, err := json.MarshalIndent(answer, "", "  ")
	if err != nil {
		return []byte("{}\n") // strings, numbers and times of this century always marshal
	}
	return append(b, '\n')
}

// denialsText is one line for each refusal and forced close, in the order of time, of
// printable ASCII: it is printed on terminals and in build logs.
func denialsText(list []audit.Event, more, secure bool) []byte {
	if len(list) == 0 {
		return []byte("sallyport: nothing was refused to this step, and none of its tunnels was closed\n")
	}
	var b strings.Builder
	if more {
		b.WriteString("sallyport: there are more; these are the latest " + strconv.Itoa(len(list)) + "\n")
	}
	for i := range list {
		d := denialOf(&list[i], secure)
		what := kindClosed
		if d.Kind == kindRefused {
			what = strconv.Itoa(d.Status)
		}
		b.WriteString(d.Time.Format(time.RFC3339) + " " + what + " " + plain(d.Reason, maxRuleShown) + " " + plain(d.Target, maxShown))
		if d.Message != "" {
			b.WriteString(": " + plain(d.Message, maxShown))
		}
		b.WriteString(" (")
		if d.Rule != "" {
			b.WriteString("rule " + plain(d.Rule, maxRuleShown) + ", ")
		}
		if d.Repeats > 0 {
			b.WriteString("refused " + strconv.FormatInt(d.Repeats, 10) + " more times, ")
		}
		b.WriteString("decision " + plain(d.Decision, maxRuleShown) + "). What to do: " + plain(d.Next, maxShown) + ".\n")
	}
	return []byte(b.String())
}

func (c *conn) writeDenials(form string, content []byte, head bool) {
	kind := "text/plain; charset=utf-8"
	if form == "json" {
		kind = "application/json"
	}
	b := append([]byte("HTTP/1."), byte('0'+c.minor))
	b = append(b, " 200 OK"...)
	b = appendField(b, "Content-Type", kind)
	b = appendField(b, "Content-Length", strconv.Itoa(len(content)))
	b = append(b, "\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n"...)
	if !head {
		b = append(b, content...)
	}
	if c.stream.SetWriteDeadline(time.Now().Add(c.server.config.WriteTimeout)) != nil {
		return
	}
	if _, err := c.stream.Write(b); err == nil {
		c.linger()
	}
}
