package frontend

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/fair"
	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// stepTimeout bounds a request of a step to this proxy itself, with the wait for a turn.
const stepTimeout = 10 * time.Second

// stepRequests is how many requests of steps to this proxy itself may be in progress, and
// how often a step and a repository may send one.
var stepRequests = fair.Config{
	Step:         fair.Limit{Slots: 1, Rate: 2, Waiting: 4},
	Repository:   fair.Limit{Slots: 2, Rate: 10, Waiting: 32},
	Total:        fair.Limit{Slots: 8, Waiting: 128},
	Wait:         5 * time.Second,
	WaitForSlots: true,
}

// networkChecks is the same for network checks, of which each has a body in memory.
var networkChecks = fair.Config{
	Step:         fair.Limit{Slots: 1, Rate: 1, Waiting: 1},
	Repository:   fair.Limit{Slots: 4, Rate: 10, Waiting: 16},
	Total:        fair.Limit{Slots: 64, Waiting: 128},
	Wait:         5 * time.Second,
	WaitForSlots: true,
}

// path is the request target without its query.
func (h *head) path() string {
	path, _, _ := strings.Cut(string(h.target), "?")
	return path
}

// serveOwn answers a request for a resource of this proxy itself, and reports whether the
// request was for one. The connection ends after it. curl and git show nothing of a refused
// CONNECT but its number: a step reads the reasons here.
func (c *conn) serveOwn(h *head) bool {
	if c.inside != nil {
		return false
	}
	s := c.server
	switch path := h.path(); {
	case path == stepapi.PathStep && s.config.Steps != nil:
		c.answerStep(h)
	case path == stepapi.PathNetworkCheck && s.config.Steps != nil:
		c.acceptNetworkCheck(h)
	case strings.HasPrefix(path, stepapi.PathBinaries):
		c.serveBinary(h, strings.TrimPrefix(path, stepapi.PathBinaries))
	default:
		return false
	}
	return true
}

// stepQuery is a valid query of the step's resource.
type stepQuery struct {
	form    string   // stepapi.FormatJSON or FormatText
	targets []string // to evaluate; nil: the step itself
}

// answerStep answers with what the step has requested, or evaluates targets for it.
func (c *conn) answerStep(h *head) {
	query, refusal := readStepQuery(h)
	var content []byte
	if refusal == nil {
		refusal = c.asStep(h, c.server.reading, func(ctx context.Context, of *proxy.Inquiry) (refusal *proxy.Refusal) {
			if query.targets != nil {
				content, refusal = c.evaluateTargets(ctx, of, query)
			} else {
				content, refusal = c.readStep(ctx, of, query.form)
			}
			return refusal
		})
	}
	if refusal != nil {
		c.refuseAsOrigin(refusal)
		return
	}
	c.server.stepReads.Add(1)
	c.writeOwn(contentTypes[query.form], content, string(h.method) == http.MethodHead)
}

var contentTypes = map[string]string{stepapi.FormatJSON: "application/json", stepapi.FormatText: "text/plain; charset=utf-8"}

// readStepQuery returns the query of a request for the step's resource, or the refusal of
// an invalid request.
func readStepQuery(h *head) (q stepQuery, refusal *proxy.Refusal) {
	if refusal := onlyGet(h); refusal != nil {
		return q, refusal
	}
	_, raw, _ := strings.Cut(string(h.target), "?")
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, malformed("the query is not valid: percent-encode the values")
	}
	for name, list := range values {
		switch {
		case name == stepapi.ParameterFormat && len(list) == 1 && contentTypes[list[0]] != "":
			q.form = list[0]
		case name == stepapi.ParameterTo && len(list) <= stepapi.MaxTargets:
			q.targets = list
		default:
			return q, malformed("the query of " + stepapi.PathStep + " has format=text or format=json once, and to=HOST:PORT up to 32 times")
		}
	}
	if q.form == "" {
		q.form = stepapi.FormatText
		for _, f := range h.fields {
			if is(f.name, "accept") && acceptsJSON(string(f.value)) {
				q.form = stepapi.FormatJSON
			}
		}
	}
	return q, nil
}

// onlyGet refuses other methods and a body.
func onlyGet(h *head) *proxy.Refusal {
	if m := string(h.method); m != http.MethodGet && m != http.MethodHead {
		r := malformed("this resource is read with GET")
		r.Status = http.StatusMethodNotAllowed
		return r
	}
	if h.body() {
		return malformed("a GET of " + h.path() + " has a body")
	}
	return nil
}

// acceptsJSON reports whether JSON is requested by name (RFC 9110 section 12.5.1).
func acceptsJSON(accept string) bool {
	for member := range strings.SplitSeq(accept, ",") {
		kind, _, _ := strings.Cut(member, ";")
		if strings.EqualFold(strings.Trim(kind, " \t"), "application/json") {
			return true
		}
	}
	return false
}

// asStep verifies the step that sends a request, waits for the step's turn and calls do.
func (c *conn) asStep(h *head, turns *fair.Limiter, do func(context.Context, *proxy.Inquiry) *proxy.Refusal) *proxy.Refusal {
	s := c.server
	if s.config.Gate.Stopped() {
		return proxy.NewRefusal(policy.EmergencyStop, "an operator activated the emergency stop")
	}
	credential, err := h.readOwnCredential()
	if err != nil {
		return c.credentialRefusal(err)
	}
	ctx, cancel := context.WithTimeout(s.context, stepTimeout)
	defer cancel()
	principal, err := s.config.Authenticator.Authenticate(identity.WithClient(ctx, host(c.client.Addr())), credential)
	if err == nil && (principal == nil || principal.Step.UUID == "") {
		err = errors.New("the authenticator returned no step")
	}
	if err != nil {
		s.config.Log.Debug("credential not accepted for a request of a step to the proxy itself", "error", err)
		return c.credentialRefusal(err)
	}
	lease, err := turns.Acquire(ctx, fair.Subject{Issuer: principal.Issuer, Repository: principal.Repository.UUID, Step: principal.Step.UUID}, 0)
	if err != nil {
		return overStepRequests(err)
	}
	defer lease.Release()
	return do(ctx, &proxy.Inquiry{Principal: principal, Client: c.client, Peer: c.peer, Listener: c.listener.Name})
}

// overStepRequests is the refusal where a request has to wait for too long. It is delayed
// for a step or repository that is over its own share, so that a loop without a pause costs
// little.
func overStepRequests(err error) *proxy.Refusal {
	over, _ := errors.AsType[*fair.OverError](err)
	r := proxy.NewRefusal(policy.Overloaded, "too many steps read what they requested at the moment")
	switch {
	case over != nil && over.Level == fair.Step:
		r = proxy.NewRefusal(policy.StepLimit, "this step sends requests to the proxy itself too often")
	case over != nil && over.Level == fair.Repository:
		r = proxy.NewRefusal(policy.RepositoryLimit, "the steps of this repository send requests to the proxy itself too often")
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
			// The text names the field by which the proxy is usually asked.
			err = &identity.Error{Problem: e.Problem, Detail: strings.ReplaceAll(e.Detail, "Proxy-Authorization", "Authorization")}
		}
		return credential, err
	}
	credential, err := h.readCredential()
	if err == nil && credential.IsZero() {
		err = &identity.Error{Problem: identity.CredentialMissing, Detail: "this resource needs the step's token, as Authorization or Proxy-Authorization"}
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
