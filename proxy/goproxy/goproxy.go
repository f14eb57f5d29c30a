// Package goproxy sends admitted absolute-form requests to their targets with
// elazarl/goproxy. It is the only package that imports that library.
//
// By default, the library forwards every request that no handler stops, uses a proxy from
// the environment, and sends raw errors to clients. This package therefore restricts it:
//
//   - One handler for requests and one for CONNECT refuse every request without an
//     admission.
//   - The library's own transport cannot dial.
//   - A refusal replaces the library's error response.
//
// Every request that it forwards is already decided and recorded.
package goproxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/elazarl/goproxy"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// Config bounds requests and their connections. A zero field means the default in its
// comment. The limits of a decision apply only where they are stricter.
type Config struct {
	Log *slog.Logger // nil: none
	// Tracker registers every request, so that an operator can abort it. nil: none.
	Tracker *proxy.Tracker

	ResponseTimeout time.Duration // from the end of the request to the response head; 0: 5 min
	MaxLifetime     time.Duration // of a request with its response; 0: 2 h
	// IdleTimeout is how long an idle connection to a target is kept. 0: 4 s, because
	// common servers close an idle connection after 5 s.
	IdleTimeout time.Duration
	// MaxIdle is the maximum number of idle connections in total. One repository may
	// have a quarter of them. 0: 1,000.
	MaxIdle          int
	MaxResponseBytes int64 // of a response head; 0: 64 KiB
}

// Forwarder forwards requests. It is safe for concurrent use.
type Forwarder struct {
	config  Config
	library *goproxy.ProxyHttpServer
	pools   pools
}

// New returns a forwarder. The caller must call [Forwarder.Close].
func New(c Config) *Forwarder {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c.ResponseTimeout = cmp.Or(c.ResponseTimeout, 5*time.Minute)
	c.MaxLifetime = cmp.Or(c.MaxLifetime, 2*time.Hour)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 4*time.Second)
	f := &Forwarder{config: c, pools: pools{
		transport: c.transport, maxIdle: cmp.Or(c.MaxIdle, 1000), quiet: 2 * c.IdleTimeout, repositories: make(map[repository]*pool),
	}}
	f.library = newLibrary(f)
	return f
}

// transport returns a transport that keeps at most maxIdle idle connections.
func (c Config) transport(maxIdle int) *http.Transport {
	t := &http.Transport{
		Proxy:                  nil, // never the environment's
		DialContext:            dialPinned,
		DisableCompression:     true, // the client and the target agree on codings
		Protocols:              new(http.Protocols),
		ForceAttemptHTTP2:      false,
		ResponseHeaderTimeout:  c.ResponseTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: cmp.Or(c.MaxResponseBytes, 64<<10),
		IdleConnTimeout:        c.IdleTimeout,
		MaxIdleConns:           maxIdle,
		MaxIdleConnsPerHost:    8,
		WriteBufferSize:        4 << 10,
		ReadBufferSize:         4 << 10,
	}
	t.Protocols.SetHTTP1(true)
	return t
}

// Close closes the idle connections.
func (f *Forwarder) Close() { f.pools.close() }

// newLibrary sets every field of goproxy that decides where a request goes: it relies on
// none of the library's defaults.
func newLibrary(f *Forwarder) *goproxy.ProxyHttpServer {
	p := goproxy.NewProxyHttpServer()
	p.Logger = logger{f.config.Log}
	p.Verbose = false
	p.KeepAcceptEncoding = true
	p.KeepDestinationHeaders = false
	p.AllowHTTP2 = false
	// The library's own transport and dial functions always fail: requests with an
	// admission have their own transport, and nothing else may be sent.
	p.Tr = &http.Transport{Proxy: nil, DialContext: dialNothing, DialTLSContext: dialNothing}
	p.ConnectDial = nil // NewProxyHttpServer sets it from the environment
	p.ConnectDialWithReq = func(*http.Request, string, string) (net.Conn, error) { return nil, errNoAdmission }
	p.NonproxyHandler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "sallyport: not a proxy request", http.StatusBadRequest)
	})
	p.OnRequest().HandleConnectFunc(refuseConnect)
	p.OnRequest().DoFunc(f.admit)
	p.OnResponse().DoFunc(neverNil)
	return p
}

var errNoAdmission = errors.New("goproxy: a request without an admission may not leave")

func dialNothing(context.Context, string, string) (net.Conn, error) { return nil, errNoAdmission }

// refuseConnect is never called, since the frontend handles CONNECT. The library would
// open a tunnel for a nil result.
func refuseConnect(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	return &goproxy.ConnectAction{Action: goproxy.ConnectReject}, host
}

// admit is the only request handler. It refuses a request without an admission. If the
// returned response is nil, the library sends the request.
func (f *Forwarder) admit(r *http.Request, ctx *goproxy.ProxyCtx) (*http.Request, *http.Response) {
	x := exchangeOf(r.Context())
	if x == nil {
		f.config.Log.Error("request without an admission refused")
		return r, goproxy.NewResponse(r, goproxy.ContentTypeText, http.StatusForbidden, "sallyport: no admission\n")
	}
	ctx.RoundTripper = goproxy.RoundTripperFunc(func(r *http.Request, _ *goproxy.ProxyCtx) (*http.Response, error) {
		return x.roundTrip(r)
	})
	return r, nil
}

// neverNil replaces a nil response, so that the library does not write its own error to the
// client. The exchange has a refusal already, and its writer drops this response.
func neverNil(resp *http.Response, ctx *goproxy.ProxyCtx) *http.Response {
	if resp == nil {
		return goproxy.NewResponse(ctx.Req, goproxy.ContentTypeText, http.StatusBadGateway, "sallyport: no answer\n")
	}
	return resp
}

// Forward sends r at most once, to an address that a permits. It writes the response to w
// and closes a. After a 101 response, w closes a instead. If Forward panics, it aborts w
// and closes a first.
func (f *Forwarder) Forward(w proxy.ResponseWriter, r *http.Request, a *proxy.Admission) {
	x := newExchange(f, a, w)
	defer x.lease.end()
	defer func() {
		if recovered := recover(); recovered != nil {
			x.fail(proxy.CauseInternal, nil)
			w.Abort()
			a.Close(x.outcome())
			panic(recovered)
		}
	}()
	ctx, cancel := x.bound(r.Context())
	defer cancel()
	if f.config.Tracker != nil {
		defer f.config.Tracker.Begin(a, func(cause proxy.Cause) {
			x.stopped(cause)
			cancel()
		})()
	}
	f.library.ServeHTTP(x, x.prepare(r, ctx))
	if x.switched != nil && x.handOver() {
		return
	}
	if x.used != nil {
		x.used.release(x)
	}
	x.finishResponse()
	a.CloseInBackground(x.outcome())
}

// logger receives the library's messages. They contain raw errors and targets, which must
// not reach a client.
type logger struct{ log *slog.Logger }

func (l logger) Printf(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("goproxy", "message", fmt.Sprintf(format, v...))
	}
}

// invalid returns the refusal for a response that cannot be forwarded.
func invalid(a *proxy.Admission, detail string) *proxy.Refusal {
	return a.Refuse(proxy.NewRefusal(policy.ResponseInvalid, detail))
}
