package webhook

import (
	"crypto/sha256"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

// MaxBody is the default bound of a body in bytes. Cloud sends at most 256 KB, Data
// Center has no bound of its own.
const MaxBody = 2 << 20

// Delivery is one verified request. It is read-only once it was handed to a [Queue].
type Delivery struct {
	Receiver  string // the configured name
	Event     *Event
	Body      []byte   // as received: the signature is over these bytes
	Digest    [32]byte // SHA-256 of Body
	Signature Signature
	Header    http.Header // header fields that may be forwarded: never a credential
	Client    netip.Addr
	Received  time.Time

	// These are not signed: a client that holds a captured body can choose them.
	RequestID string // canonical UUID, or empty
	HookUUID  string // canonical UUID, or empty; Cloud only
	Attempt   int    // from 1; 0 where none is given
}

// Problem is why a request is not a verified delivery. The reasons are documented in
// docs/reasons.md.
type Problem string

// The problems.
const (
	MethodProblem    Problem = "webhook_method"
	NetworkProblem   Problem = "webhook_source_network"
	RateProblem      Problem = "webhook_rate"
	TypeProblem      Problem = "webhook_content_type"
	SizeProblem      Problem = "webhook_body_too_large"
	SlowProblem      Problem = "webhook_body_timeout"
	UnsignedProblem  Problem = "webhook_signature_missing"
	SignatureProblem Problem = "webhook_signature_invalid"
	EventProblem     Problem = "webhook_event_unknown"
	BodyProblem      Problem = "webhook_body_invalid"
	PingProblem      Problem = "webhook_ping" // no fault: answered 200, and changes nothing
)

// answers are the status and the text of each problem. Before the signature is verified
// the text has no detail.
var answers = map[Problem]struct {
	status int
	text   string
}{
	MethodProblem:    {http.StatusMethodNotAllowed, "POST only"},
	NetworkProblem:   {http.StatusForbidden, "not accepted from this address"},
	RateProblem:      {http.StatusTooManyRequests, "too many requests from this address"},
	TypeProblem:      {http.StatusUnsupportedMediaType, "application/json only, without a content coding"},
	SizeProblem:      {http.StatusRequestEntityTooLarge, "the body is too large"},
	SlowProblem:      {http.StatusRequestTimeout, "the body took too long"},
	UnsignedProblem:  {http.StatusUnauthorized, "not verified"},
	SignatureProblem: {http.StatusUnauthorized, "not verified"},
	EventProblem:     {http.StatusBadRequest, "not an event of Bitbucket"},
	BodyProblem:      {http.StatusBadRequest, "not the body of that event"},
	PingProblem:      {http.StatusOK, "pong"},
}

// Config describes a receiver.
type Config struct {
	Name string
	Kind Kind
	// Secrets returns the secrets that are valid now: the current one and, during a
	// rotation, the previous one. It is called once for each request.
	Secrets func() []Secret
	// Networks are those that deliveries may come from; none: any.
	Networks func() []netip.Prefix
	MaxBody  int64         // bytes; 0: [MaxBody]
	Timeout  time.Duration // for the body; 0: 5 s, half of what Bitbucket waits for the answer
	// Allow reports whether the address may send another request now; nil: always.
	Allow func(netip.Addr) bool
	// Refused is called for each request that is not a verified delivery; nil: not. It
	// must not block.
	Refused func(netip.Addr, Problem)
	Decider Decider
	Queue   Queue
	Now     func() time.Time // nil: time.Now
}

// Receiver is the handler of one receiver's path. It is safe for concurrent use.
type Receiver struct{ c Config }

// NewReceiver returns a receiver. It returns an error where the configuration has no
// kind, no secrets or no queue: a receiver without a secret would accept everybody's
// deliveries.
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
	}
	if c.MaxBody == 0 {
		c.MaxBody = MaxBody
	}
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Receiver{c}, nil
}

// ServeHTTP answers one request. A status of 2xx means that the delivery and its event
// are durable, or that it is a repetition or a ping.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	client := clientAddress(req)
	d, problem := r.verify(w, req, client)
	if problem != "" {
		r.refuse(w, client, problem)
		return
	}
	decision, err := r.c.Decider.DecideDelivery(req.Context(), d)
	if err != nil { // no decision could be made: denied, and recorded as denied
		decision.Verdict = policy.Deny
	}
	outcome, err := r.c.Queue.Accept(req.Context(), d, decision)
	switch {
	case err == nil && outcome == Accepted && decision.Verdict == policy.Allow:
		answer(w, http.StatusOK, "accepted")
	case err == nil && outcome == Accepted:
		answer(w, http.StatusOK, "recorded, and not delivered: policy denies the delivery")
	case err == nil && outcome == Repeated:
		answer(w, http.StatusOK, "repeated: accepted before")
	default:
		w.Header().Set("Retry-After", "5")
		answer(w, http.StatusServiceUnavailable, "not recorded: send it again")
	}
}

func (r *Receiver) refuse(w http.ResponseWriter, client netip.Addr, problem Problem) {
	if r.c.Refused != nil {
		r.c.Refused(client, problem)
	}
	a := answers[problem]
	switch a.status {
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", http.MethodPost) // RFC 9110 section 15.5.6
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", SignatureHeader) // RFC 9110 section 15.5.2
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "1")
	}
	answer(w, a.status, a.text)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n")
}

// verify reads a request in the order in which it becomes expensive: nothing is parsed,
// and no event name is judged, before the signature over the raw bytes holds.
func (r *Receiver) verify(w http.ResponseWriter, req *http.Request, client netip.Addr) (*Delivery, Problem) {
	now := r.c.Now()
	if problem := r.checkHead(req, client); problem != "" {
		return nil, problem
	}
	signature, problem := r.readSignature(req)
	if problem != "" {
		return nil, problem
	}
	body, problem := r.readBody(w, req)
	if problem != "" {
		return nil, problem
	}
	if !r.verified(body, signature) {
		return nil, SignatureProblem
	}
	key, ok := single(req.Header, "X-Event-Key")
	if key == Ping && r.c.Kind == DataCenter {
		return nil, PingProblem
	}
	if !ok || !IsEvent(r.c.Kind, key) {
		return nil, EventProblem
	}
	event, err := Parse(r.c.Kind, key, body)
	if err != nil {
		return nil, BodyProblem
	}
	d := &Delivery{
		Receiver: r.c.Name, Event: event, Body: body, Digest: sha256.Sum256(body), Signature: signature,
		Header: forwardable(req.Header), Client: client, Received: now,
	}
	d.HookUUID = canonical(req.Header, "X-Hook-UUID")
	if d.RequestID = canonical(req.Header, "X-Request-UUID"); r.c.Kind == DataCenter {
		d.RequestID = canonical(req.Header, "X-Request-Id")
	}
	if attempt, ok := single(req.Header, "X-Attempt-Number"); ok {
		d.Attempt = attemptNumber(attempt)
	}
	return d, ""
}

// checkHead checks what costs nothing.
func (r *Receiver) checkHead(req *http.Request, client netip.Addr) Problem {
	if r.c.Networks != nil {
		if networks := r.c.Networks(); len(networks) > 0 && !slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(client) }) {
			return NetworkProblem
		}
	}
	if r.c.Allow != nil && !r.c.Allow(client) {
		return RateProblem
	}
	if req.Method != http.MethodPost {
		return MethodProblem
	}
	value, ok := single(req.Header, "Content-Type")
	media, parameters, err := mime.ParseMediaType(value)
	charset := parameters["charset"]
	if !ok || err != nil || media != "application/json" || charset != "" && !strings.EqualFold(charset, "utf-8") {
		return TypeProblem
	}
	if _, coded := req.Header["Content-Encoding"]; coded {
		return TypeProblem
	}
	return ""
}

// readSignature reads the signature. A ping of Data Center has none.
func (r *Receiver) readSignature(req *http.Request) (Signature, Problem) {
	values := req.Header.Values(SignatureHeader)
	if len(values) == 0 {
		if key, ok := single(req.Header, "X-Event-Key"); ok && key == Ping && r.c.Kind == DataCenter {
			return Signature{}, PingProblem
		}
		return Signature{}, UnsignedProblem
	}
	if len(values) > 1 {
		return Signature{}, SignatureProblem
	}
	signature, err := ParseSignature(values[0])
	if err != nil {
		return Signature{}, SignatureProblem
	}
	return signature, ""
}

// readBody reads the whole body within its bounds of bytes and time.
func (r *Receiver) readBody(w http.ResponseWriter, req *http.Request) ([]byte, Problem) {
	if req.ContentLength > r.c.MaxBody {
		return nil, SizeProblem
	}
	// A connection that has no deadlines is one of a test's recorder.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(r.c.Timeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, r.c.MaxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return nil, SizeProblem
		}
		return nil, SlowProblem
	}
	return body, ""
}

// verified compares the signature with that of each valid secret.
func (r *Receiver) verified(body []byte, signature Signature) bool {
	for _, secret := range r.c.Secrets() {
		if secret.Verify(body, signature) {
			return true
		}
	}
	return false
}

// single returns the value of a header field that stands there exactly once.
func single(h http.Header, name string) (string, bool) {
	if values := h.Values(name); len(values) == 1 {
		return values[0], true
	}
	return "", false
}

// canonical returns the UUID in a header field, bare and lower-case; empty where there is
// none.
func canonical(h http.Header, name string) string {
	value, _ := single(h, name)
	value = strings.ToLower(strings.Trim(value, "{}"))
	if !uuid.IsCanonical(value) {
		return ""
	}
	return value
}

func attemptNumber(value string) int {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// clientAddress is where the connection comes from, in its canonical form.
func clientAddress(req *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// forwarded are the header fields that an endpoint gets as they came. All others are
// dropped: credentials, hop-by-hop fields, and those by which a proxy reports an identity.
var forwarded = []string{"Content-Type", "User-Agent", "X-Event-Key", "X-Hook-UUID", "X-Request-UUID", "X-Request-Id", "X-Attempt-Number", SignatureHeader}

func forwardable(h http.Header) http.Header {
	out := http.Header{}
	for _, name := range forwarded {
		if value, ok := single(h, name); ok {
			out.Set(name, value)
		}
	}
	return out
}
