package goproxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// exchange is one admitted request and its response. It is the library's response writer:
// it counts, and it drops the library's own response once a refusal is due.
type exchange struct {
	forwarder *Forwarder
	admission *proxy.Admission
	response  proxy.ResponseWriter
	key       string // of the connections that this request may use
	lease     poolLease
	alone     bool   // it may use none that was used before
	webSocket string // the handshake's key, where the client asks for WebSocket
	used      *connection
	switched  *switched // where the target has agreed

	bodyRead atomic.Bool // bytes of the request's body were read; its reader is another goroutine
	status   int         // what the client was answered
	upstream int         // what the target answered
	repeated bool        // it was sent twice

	mu      sync.Mutex
	cause   proxy.Cause
	refusal *proxy.Refusal
}

type exchangeKey struct{}

func exchangeOf(ctx context.Context) *exchange {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	return x
}

func newExchange(f *Forwarder, a *proxy.Admission, response proxy.ResponseWriter) *exchange {
	return &exchange{forwarder: f, admission: a, response: response, key: poolKey(a), lease: f.pools.begin(a.Principal)}
}

var errLifetime = errors.New("the request reached its lifetime limit")

// bound sets the request's deadline, which counts from the decision.
func (x *exchange) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	life := x.forwarder.config.MaxLifetime
	if l := x.admission.Decision.Limits.Lifetime; l > 0 {
		life = min(life, l)
	}
	end := x.admission.Admitted.Add(life)
	if e := x.admission.Decision.Expires; !e.IsZero() && e.Before(end) {
		end = e
	}
	ctx = context.WithValue(ctx, exchangeKey{}, x)
	return context.WithDeadlineCause(ctx, end, errLifetime)
}

// prepare returns the request that the library sends.
func (x *exchange) prepare(r *http.Request, ctx context.Context) *http.Request {
	out := r.WithContext(ctx)
	if _, has := out.Header["User-Agent"]; !has {
		out.Header["User-Agent"] = []string{""} // or net/http would name itself
	}
	out.GetBody = nil
	if out.Header.Get("Upgrade") != "" {
		// The library has its own relay for this, without limits.
		x.webSocket, x.alone = out.Header.Get("Sec-Websocket-Key"), true
		out.Header.Del("Upgrade")
	}
	if r.ContentLength != 0 || replayable(r) && lacksBody(r.Method) {
		// A body that is there and cannot be had twice keeps the transport from
		// sending the request a second time when a kept connection breaks under it.
		// The transport finds out by itself that this one may be empty.
		out.Body = &requestBody{x: x, from: r.Body}
	} else {
		out.Body = http.NoBody
		// With an empty body it would be announced as chunked. So a request that the
		// transport might repeat gets a connection that was not used before: there
		// it never does.
		x.alone = replayable(r)
	}
	return out
}

// replayable reports whether net/http's transport would repeat a request without
// a body, as of Go 1.26.
func replayable(r *http.Request) bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, has := r.Header["Idempotency-Key"]
	_, hasX := r.Header["X-Idempotency-Key"]
	return has || hasX
}

// lacksBody is for which methods that transport looks whether a body of unknown
// length is empty.
func lacksBody(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions, "PROPFIND", "SEARCH":
		return true
	}
	return false
}

// fail sets why the exchange failed. The first cause is kept.
func (x *exchange) fail(cause proxy.Cause, r *proxy.Refusal) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.cause == "" {
		x.cause, x.refusal = cause, r
	}
}

// stopped records that an operator or a change of policy ended the exchange.
func (x *exchange) stopped(cause proxy.Cause) {
	reason, detail := policy.ShuttingDown, "an operator has ended this request"
	switch cause {
	case proxy.CausePolicyChanged:
		reason, detail = policy.PolicyDenied, "the policy has changed, and does not allow this request any more"
	case proxy.CauseEmergencyStop:
		reason = policy.EmergencyStop
	case proxy.CauseRevoked:
		reason = policy.CredentialRevoked
	}
	x.fail(cause, x.admission.Refuse(proxy.NewRefusal(reason, detail)))
}

func (x *exchange) failed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.cause != ""
}

// finishResponse ends the response to the client, or sends the refusal instead of it.
func (x *exchange) finishResponse() {
	x.mu.Lock()
	cause, refusal := x.cause, x.refusal
	x.mu.Unlock()
	switch {
	case cause == "":
		x.response.Finish()
	case refusal != nil && x.status == 0:
		x.status = refusal.Status
		x.response.Refuse(refusal)
	default:
		x.response.Abort()
	}
}

func (x *exchange) outcome() proxy.Outcome {
	x.mu.Lock()
	defer x.mu.Unlock()
	sent, received := x.admission.Moved()
	o := proxy.Outcome{Sent: sent, Received: received, Cause: x.cause, Status: x.status, UpstreamStatus: x.upstream, Repeated: x.repeated}
	if o.Cause == "" {
		o.Cause = proxy.CauseFinished
	}
	return o
}

// Header returns the response's fields.
func (x *exchange) Header() http.Header { return x.response.Header() }

// WriteHeader begins the response, unless a refusal replaces it.
func (x *exchange) WriteHeader(status int) {
	if x.failed() || x.switched != nil {
		return
	}
	if x.upstream == 0 {
		// This is the library's own response, which is not for the client.
		x.fail(proxy.CauseInternal, x.admission.Refuse(proxy.NewRefusal(policy.InternalError, "the request was not sent")))
		return
	}
	x.status = status
	x.response.WriteHeader(status)
}

// Write forwards content to the client.
func (x *exchange) Write(p []byte) (int, error) {
	if x.failed() || x.status == 0 {
		return 0, io.ErrClosedPipe
	}
	n, err := x.response.Write(p)
	if err != nil && !errors.Is(err, http.ErrBodyNotAllowed) {
		x.fail(proxy.CauseClientError, nil)
	}
	return n, err
}

// Flush sends the response's head.
func (x *exchange) Flush() {
	if !x.failed() && x.status != 0 {
		x.response.Flush()
	}
}

var copyBuffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// ReadFrom copies the content for the library. Each piece is sent to the client before
// the next is read, so that streamed content arrives as it is sent.
func (x *exchange) ReadFrom(from io.Reader) (total int64, err error) {
	buf := copyBuffers.Get().(*[32 << 10]byte)
	defer copyBuffers.Put(buf)
	for {
		n, err := from.Read(buf[:])
		if n > 0 {
			written, err := x.Write(buf[:n])
			total += int64(written)
			if err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// requestBody is the request's content, which cannot be read twice.
type requestBody struct {
	x    *exchange
	from io.ReadCloser
}

func (b *requestBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if n > 0 {
		b.x.bodyRead.Store(true)
	}
	if err == nil || err == io.EOF {
		return n, err
	}
	cause := proxy.CauseClientError
	if errors.Is(err, io.ErrUnexpectedEOF) {
		cause = proxy.CauseClientClosed
	}
	var refusal *proxy.Refusal
	if e, ok := errors.AsType[interface {
		error
		Refusal() *proxy.Refusal
	}](err); ok {
		refusal = b.x.admission.Refuse(e.Refusal())
	}
	b.x.fail(cause, refusal)
	return n, err
}

func (b *requestBody) Close() error { return b.from.Close() }

// responseBody distinguishes the end of a response from its loss.
type responseBody struct {
	x *exchange
	io.ReadCloser
}

func (b *responseBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.x.fail(lossCause(err), nil)
	}
	return n, err
}

// lossCause returns why a response broke off.
func lossCause(err error) proxy.Cause {
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, errLifetime):
		return proxy.CauseLifetime
	case errors.Is(err, context.Canceled):
		return proxy.CauseShutdown
	case errors.Is(err, io.ErrUnexpectedEOF):
		return proxy.CauseTargetClosed
	}
	return proxy.CauseTargetError
}
