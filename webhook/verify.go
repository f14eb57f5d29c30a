package webhook

import (
	"crypto/sha256"
	"errors"
	"mime"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/uuid"
)

// verify checks a request, the cheapest checks first. Nothing is parsed, and the event
// key is not checked, before the signature over the raw bytes is verified.
func (r *Receiver) verify(w http.ResponseWriter, req *http.Request, client netip.Addr, buffer *body) (*Delivery, Problem) {
	now := r.c.Now()
	if problem := r.checkHead(req, client); problem != "" {
		return nil, problem
	}
	signature, problem := r.readSignature(req)
	if problem != "" {
		return nil, problem
	}
	body, problem := r.readBody(w, req, buffer)
	if problem != "" {
		return nil, problem
	}
	if !r.verified(body, signature) {
		return nil, SignatureProblem
	}
	if r.c.Verified != nil {
		r.c.Verified(req.Context())
	}
	key, ok := singleValue(req.Header, "X-Event-Key")
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
		Receiver: r.c.Name, Listener: r.c.Listener, Event: event, Body: body, Digest: sha256.Sum256(body), Signature: signature,
		Header: forwardable(req.Header), Client: client, Received: now,
	}
	d.HookUUID = uuidField(req.Header, "X-Hook-UUID")
	if d.RequestID = uuidField(req.Header, "X-Request-UUID"); r.c.Kind == DataCenter {
		d.RequestID = uuidField(req.Header, "X-Request-Id")
	}
	if attempt, ok := singleValue(req.Header, "X-Attempt-Number"); ok {
		d.Attempt = attemptNumber(attempt)
	}
	return d, ""
}

// checkHead makes the checks that need neither the body nor a secret.
func (r *Receiver) checkHead(req *http.Request, client netip.Addr) Problem {
	if r.c.AcceptsFrom != nil && !r.c.AcceptsFrom(client) {
		return NetworkProblem
	}
	if r.c.Allow != nil && !r.c.Allow(client) {
		return RateProblem
	}
	if req.Method != http.MethodPost {
		return MethodProblem
	}
	value, ok := singleValue(req.Header, "Content-Type")
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
		if key, ok := singleValue(req.Header, "X-Event-Key"); ok && key == Ping && r.c.Kind == DataCenter {
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
func (r *Receiver) readBody(w http.ResponseWriter, req *http.Request, buffer *body) ([]byte, Problem) {
	if req.ContentLength > r.c.MaxBody {
		return nil, SizeProblem
	}
	// httptest.ResponseRecorder has no deadlines; every connection has.
	connection := http.NewResponseController(w)
	_ = connection.SetReadDeadline(time.Now().Add(r.c.Timeout))
	err := buffer.read(http.MaxBytesReader(w, req.Body, r.c.MaxBody))
	if err == nil {
		// Without this, net/http cancels the request's context at the deadline.
		_ = connection.SetReadDeadline(time.Time{})
		return buffer.bytes, ""
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, SizeProblem
	}
	switch {
	case errors.Is(err, errNoMemory):
		return nil, OverloadedProblem
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, SlowProblem
	}
	return nil, IncompleteProblem
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

// singleValue returns the value of a header field that occurs exactly once.
func singleValue(h http.Header, name string) (string, bool) {
	if values := h.Values(name); len(values) == 1 {
		return values[0], true
	}
	return "", false
}

// uuidField returns the UUID in a header field, bare and lower-case; empty if the field has
// none.
func uuidField(h http.Header, name string) string {
	value, _ := singleValue(h, name)
	canonical, _ := uuid.Parse(value)
	return canonical
}

func attemptNumber(value string) int {
	n, err := strconv.ParseUint(value, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// clientAddress returns the canonical address of the client; the zero address where it is
// not an IP address.
func clientAddress(req *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(req.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return a.Addr().Unmap().WithZone("")
}

// forwardedFields are the header fields that an endpoint receives unchanged. All others
// are dropped: credentials, hop-by-hop fields, and those by which a proxy reports an
// identity.
var forwardedFields = []string{"Content-Type", "User-Agent", "X-Event-Key", "X-Hook-UUID", "X-Request-UUID", "X-Request-Id", "X-Attempt-Number", SignatureHeader}

// maxForwarded bounds the value of such a field in bytes; Bitbucket's are short. A longer one
// is dropped: as JSON, the fields must fit the queue, or a captured body with a long field
// would be refused there, with two events for each attempt.
const maxForwarded = 1 << 10

func forwardable(h http.Header) http.Header {
	out := http.Header{}
	for _, name := range forwardedFields {
		if value, ok := singleValue(h, name); ok && len(value) <= maxForwarded {
			out.Set(name, value)
		}
	}
	return out
}
