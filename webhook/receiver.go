package webhook

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// MaxBody is the default limit of a body in bytes. Cloud sends at most 256 KB, Data
// Center has no limit of its own.
const MaxBody = 2 << 20

// Bitbucket waits 10 s for a response. The defaults of [Config] add up to less.
const (
	bodyTimeout     = 4 * time.Second
	decisionTimeout = 2 * time.Second
	commitTimeout   = 3 * time.Second
)

// Config describes a receiver.
type Config struct {
	Name     string
	Listener string // the configured address, for the audit log
	Kind     Kind
	// Secrets returns the secrets that are valid now: the current one and, during a
	// rotation, the previous one. It is called once for each request.
	Secrets func() []Secret
	// Repositories are those whose deliveries are accepted: canonical UUIDs, and full
	// names without regard to case. None: every repository that the policy or the
	// configured actions accept.
	Repositories []string
	// Events are the event keys that are accepted. None: every documented event.
	Events []string
	// AcceptsFrom reports whether deliveries may come from the address; nil: from any.
	AcceptsFrom func(netip.Addr) bool
	MaxBody     int64         // bytes; 0: [MaxBody]
	Timeout     time.Duration // for the body; 0: 4 s
	// Allow reports whether the address may send another request now; nil: always.
	Allow func(netip.Addr) bool
	// Reserve reserves memory for a body of an address until release is called; ok is
	// false if the address or the listener has reached its limit. Nil: MaxBody is the only
	// limit.
	Reserve func(client netip.Addr, bytes int64) (release func(), ok bool)
	// Verified is called with the context of a request whose signature is valid; nil: never
	// called.
	Verified func(context.Context)
	// Refused is called for each request that is not a verified delivery; nil: never
	// called. It must not block.
	Refused func(netip.Addr, Problem)
	// Answered is called for each verified delivery with its decision and the status of
	// its response; nil: never called. It must not block.
	Answered func(*Delivery, Decision, Outcome, int)
	// Panicked is called with the value of a recovered panic; nil: never called.
	Panicked func(any)
	Decider  Decider
	Queue    Queue
	Now      func() time.Time // nil: time.Now
}

// Receiver is the handler of one receiver's path. It is safe for concurrent use.
type Receiver struct{ c Config }

// NewReceiver returns a receiver. It returns an error where the configuration has no
// kind, no secret, no decider or no queue, or an event that the product does not
// document. A receiver without a secret would accept every delivery.
func NewReceiver(c Config) (*Receiver, error) {
	switch {
	case kindNames[c.Kind] == "":
		return nil, errors.New("webhook receiver: the kind is neither cloud nor data_center")
	case c.Secrets == nil || len(c.Secrets()) == 0:
		return nil, errors.New("webhook receiver: there is no secret")
	case slices.Contains(c.Secrets(), Secret{}):
		return nil, errors.New("webhook receiver: a secret is empty")
	case c.Decider == nil || c.Queue == nil:
		return nil, errors.New("webhook receiver: there is no decider or no queue")
	case slices.ContainsFunc(c.Events, func(key string) bool { return !IsEvent(c.Kind, key) }):
		return nil, errors.New("webhook receiver: an event is not one of the product")
	}
	if c.MaxBody == 0 {
		c.MaxBody = MaxBody
	}
	if c.Timeout == 0 {
		c.Timeout = bodyTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Receiver{c}, nil
}

// ServeHTTP answers one request. A status of 2xx means that the delivery and its event
// are durable, or that it is a repetition or a ping. A panic of the decider or of the
// queue is answered 503.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	defer func() {
		if p := recover(); p != nil {
			if r.c.Panicked != nil {
				r.c.Panicked(p)
			}
			respondUnavailable(w)
		}
	}()
	client := clientAddress(req)
	body := body{client: client, reserve: r.c.Reserve}
	defer body.release()
	d, problem := r.verify(w, req, client, &body)
	if problem != "" {
		r.refuse(w, client, problem)
		return
	}
	// A client that disconnects does not cancel the record of its delivery.
	ctx := context.WithoutCancel(req.Context())
	decision := r.decide(ctx, d)
	ctx, cancel := context.WithTimeout(ctx, commitTimeout)
	defer cancel()
	outcome, err := r.c.Queue.Accept(ctx, d, decision)
	status := http.StatusOK
	switch {
	case err == nil && outcome == Accepted && decision.Verdict == policy.Allow:
		respond(w, status, "accepted")
	case err == nil && outcome == Accepted:
		respond(w, status, "recorded, and not delivered: denied")
	case err == nil && outcome == Repeated:
		respond(w, status, "repeated: accepted before")
	default:
		outcome, status = 0, http.StatusServiceUnavailable
		respondUnavailable(w)
	}
	if r.c.Answered != nil {
		r.c.Answered(d, decision, outcome, status)
	}
}

func respondUnavailable(w http.ResponseWriter) {
	w.Header().Set("Retry-After", "5")
	respond(w, http.StatusServiceUnavailable, "not recorded: send it again")
}

// decide returns the decision about a verified delivery. What cannot be decided is denied.
func (r *Receiver) decide(ctx context.Context, d *Delivery) Decision {
	if reason := r.checkLists(d.Event); reason != "" {
		return Decision{Reason: reason}
	}
	ctx, cancel := context.WithTimeout(ctx, decisionTimeout)
	defer cancel()
	decision, err := r.c.Decider.DecideDelivery(ctx, d)
	if err != nil {
		decision.Verdict = policy.Deny
	}
	if decision.Verdict != policy.Allow {
		decision.Routes = nil
		if decision.Reason == "" {
			decision.Reason = policy.PolicyError
		}
	}
	return decision
}

// checkLists returns the reason for which the receiver's lists deny an event; empty if they
// contain it. If the receiver lists repositories, an event without a repository is denied.
func (r *Receiver) checkLists(e *Event) policy.Reason {
	if len(r.c.Events) > 0 && !slices.Contains(r.c.Events, e.Key) {
		return EventNotAllowed
	}
	if len(r.c.Repositories) == 0 {
		return ""
	}
	repository := e.Repository
	if repository == nil || !slices.ContainsFunc(r.c.Repositories, func(listed string) bool {
		return listed != "" && (listed == repository.UUID || strings.EqualFold(listed, repository.FullName))
	}) {
		return RepositoryNotAllowed
	}
	return ""
}
