// Package goproxy sends admitted absolute-form requests to their targets by
// elazarl/goproxy. It is the only package that imports that library.
//
// The library forwards whatever no handler stops, uses a proxy from the environment and
// shows raw errors to clients. So it has one handler for requests and one for CONNECT,
// both of which refuse what has no admission; its transport cannot dial; and a refusal
// replaces what it would write about an error. Everything that it forwards is already
// decided and recorded.
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

// Config bounds requests and their connections. A zero field has the default that its
// comment names; a decision's own limits can only be stricter.
type Config struct {
	Log *slog.Logger // nil: none
	// Tracker gets every request, so that an operator can end it. nil: none.
	Tracker *proxy.Tracker

	ResponseTimeout  time.Duration // from the request's end to the answer's head; 0: 5 min
	MaxLifetime      time.Duration // of a request with its answer; 0: 2 h
	IdleTimeout      time.Duration // of a kept connection to a target; 0: 4 s, less than the 5 s after which common servers close theirs
	MaxIdle          int           // kept connections, in all, of which a repository may have a quarter; 0: 1,000
	MaxResponseBytes int64         // the head of an answer; 0: 64 KiB
}

// Forwarder forwards requests. It is safe for concurrent use.
type Forwarder struct {
	config  Config
	library *goproxy.ProxyHttpServer
	pools   pools
}

// New returns a forwarder. The caller closes it.
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

// transport returns a transport that keeps so many idle connections.
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

// Close ends the connections that are kept for a next request.
func (f *Forwarder) Close() { f.pools.close() }

// newLibrary sets every field of goproxy that decides where a request goes, and uses no
// default.
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
	p.ConnectDial = nil // set from the environment until now
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

// refuseConnect is not reached, since the frontend handles CONNECT; a result of nil would
// mean "tunnel it".
func refuseConnect(host string, _ *goproxy.ProxyCtx) (*goproxy.ConnectAction, string) {
	return &goproxy.ConnectAction{Action: goproxy.ConnectReject}, host
}

// admit is the only request handler. It refuses what has no admission; a result of nil
// would mean "send it".
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

// neverNil keeps the library from writing its own error to the client: the exchange has a
// refusal, and its writer drops this response.
func neverNil(resp *http.Response, ctx *goproxy.ProxyCtx) *http.Response {
	if resp == nil {
		return goproxy.NewResponse(ctx.Req, goproxy.ContentTypeText, http.StatusBadGateway, "sallyport: no answer\n")
	}
	return resp
}

// Forward sends r to an address that a permits, once, writes the response to w, and
// closes the admission. If the protocol changes, w closes the admission.
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

// logger receives the library's messages. They contain raw errors and targets, which are
// for the log only.
type logger struct{ log *slog.Logger }

func (l logger) Printf(format string, v ...any) {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		l.log.Debug("goproxy", "message", fmt.Sprintf(format, v...))
	}
}

// invalid is the refusal for a response that cannot be forwarded.
func invalid(a *proxy.Admission, detail string) *proxy.Refusal {
	return a.Refuse(proxy.NewRefusal(policy.ResponseInvalid, detail))
}
