package goproxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// poolKey names the connections that a request may share: those of the same
// credential to the same target at the same pinned addresses. So a connection
// that is used again is always one to an address that this decision has pinned,
// and no step ever sees what was left on another's.
//
// It replaces the host in the URL of the transport, which identifies connections by that
// host only.
func poolKey(a *proxy.Admission) string {
	b := make([]byte, 0, 256)
	if p := a.Principal; p != nil {
		b = append(b, p.CredentialDigest[:]...)
		b = append(b, p.Issuer...)
		b = append(b, 0)
		b = append(b, p.Step.UUID...)
	}
	b = append(b, 0)
	b = append(b, a.Target.String()...)
	b = append(b, 0)
	b = append(b, a.UpstreamProxy()...)
	pinned := slices.Clone(a.Addresses)
	slices.SortFunc(pinned, func(x, y netip.AddrPort) int { return x.Compare(y) })
	for _, addr := range pinned {
		b = append(b, 0)
		b = addr.AppendTo(b)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// dialError carries a refusal through the transport.
type dialError struct{ refusal *proxy.Refusal }

func (e *dialError) Error() string { return "goproxy: dial: " + string(e.refusal.Reason) }

// dialPinned is the transport's only dial function. It ignores the network and the
// address that the transport passes: the admission has the addresses.
func dialPinned(ctx context.Context, _, _ string) (net.Conn, error) {
	x := exchangeOf(ctx)
	if x == nil {
		return nil, errNoAdmission
	}
	x.lease.dialing()
	conn, refusal := x.admission.Dial(ctx)
	if refusal != nil {
		return nil, &dialError{refusal}
	}
	x.lease.dialed()
	return &connection{Stream: conn, to: x.admission.Dialed(), lease: x.lease}, nil
}

// roundTrip sends the request once and returns a response that may be forwarded. After an
// error the exchange has its refusal.
func (x *exchange) roundTrip(r *http.Request) (*http.Response, error) {
	own := ""
	if x.alone {
		own = x.admission.ID
	}
	resp, err := x.send(r, own)
	if err != nil {
		x.notSent(r.Context(), err)
		return nil, err
	}
	x.upstream = resp.StatusCode
	if resp.StatusCode == http.StatusSwitchingProtocols && x.webSocket != "" {
		return nil, x.takeOver(resp)
	}
	if problem := unfit(resp); problem != "" {
		_ = resp.Body.Close()
		x.fail(proxy.CauseResponseInvalid, invalid(x.admission, "the target's answer is not passed on: "+problem))
		return nil, errors.New("goproxy: " + problem)
	}
	resp.Body = &responseBody{x, resp.Body}
	return resp, nil
}

// send tries the request on a kept or new connection, or with fresh on a new one.
// A request is sent once more, on a new connection, in two cases: the kept
// connection turned out to be closed before a byte was written to it; or the
// target closed it without a byte of an answer, and the request is idempotent
// and has no body (RFC 9110 section 9.2.2). Targets close kept connections at any
// time, so that the second case is common.
func (x *exchange) send(r *http.Request, fresh string) (*http.Response, error) {
	var used *connection
	var reused bool
	var before int64
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if c, ok := info.Conn.(*connection); ok {
			used, reused, before = c, info.Reused, c.written.Load()
			x.used = c
			c.serve(x)
			if info.Reused {
				x.admission.Reached(c.to)
			}
		}
	}}
	out := r.WithContext(httptrace.WithClientTrace(r.Context(), trace))
	out.URL = x.syntheticURL(r.URL, fresh)
	if x.webSocket != "" {
		out.Header = out.Header.Clone()
		out.Header["Connection"], out.Header["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
	resp, err := x.lease.transport.RoundTrip(out)
	if err == nil || fresh != "" || !reused || used == nil || x.bodyRead.Load() || r.Context().Err() != nil || x.failed() {
		return resp, err
	}
	if used.written.Load() != before {
		if _, received := x.admission.Moved(); received > 0 || !isIdempotent(r.Method) || !isBroken(err) {
			return resp, err
		}
		x.repeated = true
	}
	return x.send(r, x.admission.ID)
}

// isIdempotent reports whether a request with this method may be sent twice (RFC
// 9110 section 9.2.2; TRACE is not forwarded).
func isIdempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// syntheticURL is the URL for the transport. The target's own path is sent as policy saw
// it, byte by byte.
func (x *exchange) syntheticURL(u *url.URL, fresh string) *url.URL {
	s := &url.URL{Scheme: "http", Host: x.key + fresh, Opaque: x.admission.Path}
	if strings.HasPrefix(s.Opaque, "//") {
		// Opaque with two slashes would become an absolute URL with another host.
		s.Opaque, s.Path, s.RawPath, s.RawQuery, s.ForceQuery = "", u.Path, u.RawPath, u.RawQuery, u.ForceQuery
	}
	return s
}

// notSent returns the refusal for a request without a response. Raw errors contain
// addresses, and are for the log only.
func (x *exchange) notSent(ctx context.Context, err error) {
	x.forwarder.config.Log.Warn("target returned no response", "decision_id", x.admission.ID, "error", err)
	refuse := func(reason policy.Reason, detail string) *proxy.Refusal {
		return x.admission.Refuse(proxy.NewRefusal(reason, detail))
	}
	timeout, isTimeout := errors.AsType[net.Error](err)
	dial, isDial := errors.AsType[*dialError](err)
	switch {
	case isDial:
		x.fail(dial.refusal.Cause(), dial.refusal)
	case errors.Is(context.Cause(ctx), errLifetime):
		x.fail(proxy.CauseLifetime, refuse(policy.TargetTimeout, "the target did not answer within the time that the request may last"))
	case ctx.Err() != nil:
		x.fail(proxy.CauseShutdown, refuse(policy.ShuttingDown, "this instance is shutting down"))
	case isTimeout && timeout.Timeout():
		x.fail(proxy.CauseTargetTimeout, refuse(policy.TargetTimeout, "the target did not answer in time"))
	case isBroken(err):
		x.fail(proxy.CauseTargetClosed, refuse(policy.TargetUnreachable, "the target closed the connection without an answer"))
	default:
		x.fail(proxy.CauseResponseInvalid, invalid(x.admission, "the target's answer is not valid HTTP"))
	}
}

// isBroken reports whether a connection ended, as opposed to a response that is not valid
// HTTP.
func isBroken(err error) bool {
	if _, ok := errors.AsType[*net.OpError](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || strings.HasSuffix(err.Error(), "server closed idle connection")
}

// unfit returns what is wrong with a response that net/http has accepted.
func unfit(resp *http.Response) string {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		return "it changes the protocol without a request for that"
	case resp.StatusCode < 200:
		return "its status is out of range"
	case resp.StatusCode == http.StatusProxyAuthRequired:
		// The client would consider it ours, and send its credential again.
		return "it asks for a proxy's credential"
	case len(resp.TransferEncoding) > 0 && resp.ProtoMajor == 1 && resp.ProtoMinor == 0:
		return "an HTTP/1.0 answer has a Transfer-Encoding"
	}
	if problem := unfitFields(resp.Header); problem != "" {
		return problem
	}
	// A client that reads these in a final response would begin a tunnel.
	resp.Header.Del("Upgrade")
	return ""
}

func unfitFields(header http.Header) string {
	for name, values := range header {
		if !isFieldName(name) {
			return "a header field's name is not a token"
		}
		for _, v := range values {
			if !isFieldValue(v) {
				return "the header field " + strconv.Quote(name) + " holds a control byte"
			}
		}
	}
	return ""
}

func isFieldName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < 0x20 && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
