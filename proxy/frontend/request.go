package frontend

import (
	"bytes"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// request answers a request that is not a CONNECT, and reports whether the
// connection can carry another one.
func (c *conn) request(h *head) (again bool) {
	s := c.server
	if c.serveOwn(h) {
		return false
	}
	attempt, header, refusal := c.forwardAttempt(h)
	if refusal != nil {
		c.refuseHere(refusal)
		return false
	}
	a, refusal := s.config.Gate.Admit(s.context, attempt)
	c.headBytes.Release() // an admission has them under its step's limits
	if refusal != nil {
		if c.inside != nil && refusal.Status == http.StatusProxyAuthRequired {
			refusal.Status = http.StatusForbidden // a client has no proxy inside a tunnel
		}
		c.answer(refusal)
		return false
	}
	return c.forward(h, attempt.HTTP.Method, header, a)
}

// forwardAttempt checks a request for an absolute-form target, and returns what the gate
// decides on and the header fields to forward.
func (c *conn) forwardAttempt(h *head) (attempt proxy.Attempt, header http.Header, refusal *proxy.Refusal) {
	if c.inside != nil {
		refusal = c.inside.bind(h)
	}
	if refusal == nil {
		refusal = c.unfit(h)
	}
	if refusal != nil {
		return attempt, nil, refusal
	}
	header = c.forwardedHeader(h)
	if refusal = countForwards(h, header); refusal != nil {
		return attempt, nil, refusal
	}
	if h.wantsWebSocket() {
		if refusal = h.checkWebSocket(header); refusal != nil {
			return attempt, nil, refusal
		}
	}
	method, raw := string(h.method), string(h.target)
	path, refusal := h.policyPath(method, raw)
	if refusal != nil {
		return attempt, nil, refusal
	}
	attempt = proxy.Attempt{
		Action:      policy.Forward,
		Target:      raw,
		HTTP:        &policy.HTTPRequest{Method: method, Path: path, Headers: c.server.policyHeaders(header)},
		Client:      c.client,
		Peer:        c.peer,
		Listener:    c.listener.Name,
		HeaderBytes: int64(len(c.buf.b)),
	}
	if c.inside != nil {
		attempt.Credential = c.inside.credential
	} else {
		attempt.Credential, attempt.CredentialError = h.readCredential()
	}
	return attempt, header, nil
}

// policyPath returns the path that policy reads, without the query. It is empty where
// the target does not parse: the gate parses the target again and refuses it.
func (h *head) policyPath(method, raw string) (string, *proxy.Refusal) {
	_, pathAndQuery, err := destination.ParseAbsolute(raw)
	if err != nil {
		return "", nil
	}
	if h.hostProblem != "" {
		return "", malformed(h.hostProblem)
	}
	path, _, _ := strings.Cut(pathAndQuery, "?")
	if len(path) > maxPathBytes {
		return "", pathTooLong()
	}
	if method == http.MethodOptions && !destination.HasPath(raw) {
		return "*", nil // as the gate reads it
	}
	return path, nil
}

// forward has the forwarder send an admitted request, and reports whether the
// connection can carry another one.
func (c *conn) forward(h *head, method string, header http.Header, a *proxy.Admission) (again bool) {
	s := c.server
	handed := false
	defer func() {
		if !handed {
			a.Close(proxy.Outcome{Cause: proxy.CauseInternal})
		}
	}()
	w := &response{c: c, header: make(http.Header, 16), method: method, close: !h.persistent() || s.isClosing()}
	w.body = newBody(c, h, w)
	r := outgoing(s.context, method, header, h, w.body, a)
	if h.wantsWebSocket() {
		header["Upgrade"] = []string{"websocket"}
	}
	handed = true // from here on the forwarder closes the admission
	again = w.serve(s.config.Forwarder, r, a)
	if w.switched != nil {
		w.switched.admission = a
		c.switched = w.switched
	}
	return again
}

// maxPathBytes bounds a path, without its query: policy reads it, and the log keeps
// what policy read. RFC 9110 section 4.1 recommends that 8,000 bytes be supported.
const maxPathBytes = 8000

// pathTooLong is the refusal of a longer one, before anything is evaluated (RFC 9110
// section 15.5.15).
func pathTooLong() *proxy.Refusal {
	r := proxy.NewRefusal(policy.TargetInvalid, "the path has more than "+strconv.Itoa(maxPathBytes)+" bytes: send long values in the query or the body")
	r.Status = http.StatusRequestURITooLong
	return r
}

// unfit refuses what a proxy does not forward, whatever the policy.
func (c *conn) unfit(h *head) *proxy.Refusal {
	switch {
	case h.target[0] == '/':
		return malformed("this is a proxy and not a web server: set it as HTTPS_PROXY and http_proxy, and name the target as in GET http://host/path")
	case string(h.target) == "*":
		return malformed("a request for * is meant for one server: name the target as in OPTIONS http://host/path")
	case string(h.method) == "TRACE":
		// The answer to a TRACE repeats the request's fields, credentials included
		// (RFC 9110 section 9.3.8).
		r := malformed("TRACE is not forwarded")
		r.Status = http.StatusNotImplemented
		return r
	case h.cameBack(c.server.config.Pseudonym):
		r := malformed("this request has passed through this proxy before: the target leads back here")
		r.Status = http.StatusLoopDetected
		return r
	}
	return nil
}

// cameBack reports whether this instance is in Via (RFC 9110 section 7.6.3), whose
// members are a protocol, a name and a comment.
func (h *head) cameBack(pseudonym string) bool {
	for _, f := range h.fields {
		if !is(f.name, "via") {
			continue
		}
		for member := range bytes.SplitSeq(f.value, []byte{','}) {
			if parts := bytes.Fields(member); len(parts) >= 2 && strings.EqualFold(string(parts[1]), pseudonym) {
				return true
			}
		}
	}
	return false
}

// countForwards decrements Max-Forwards (RFC 9110 section 7.6.2). A request that may not
// be forwarded is for this proxy, which has no response to it.
func countForwards(h *head, header http.Header) *proxy.Refusal {
	values, ok := header["Max-Forwards"]
	if !ok || string(h.method) != http.MethodOptions {
		return nil
	}
	n, err := strconv.ParseUint(values[0], 10, 31)
	if err != nil || len(values) > 1 {
		return malformed("Max-Forwards is not a number")
	}
	if n == 0 {
		r := malformed("Max-Forwards is 0: the request would have to be answered by this proxy")
		r.Status = http.StatusNotImplemented
		return r
	}
	header["Max-Forwards"] = []string{strconv.FormatUint(n-1, 10)}
	return nil
}

// forwardedHeader returns the fields to forward: all but those of this hop, and Via.
func (c *conn) forwardedHeader(h *head) http.Header {
	header := make(http.Header, len(h.fields)+1)
	values := make([]string, len(h.fields)) // one array for all lists of one
	for i, f := range h.fields {
		name := http.CanonicalHeaderKey(string(f.name))
		if isHop(name) || name == "Host" || name == "Content-Length" || name == "Expect" {
			continue
		}
		if have := header[name]; have != nil {
			header[name] = append(have, string(f.value))
			continue
		}
		values[i] = string(f.value)
		header[name] = values[i : i+1 : i+1]
	}
	for _, f := range h.fields {
		if is(f.name, "connection") {
			dropNominated(header, string(f.value))
		}
	}
	if h.has.expect && h.body() && h.minor == 1 {
		header["Expect"] = []string{"100-continue"}
	}
	addVia(header, h.minor, c.server.config.Pseudonym)
	return header
}

// policyHeaders copies the fields that policy may read, as they are forwarded.
func (s *Server) policyHeaders(header http.Header) map[string]string {
	if len(s.allowed) == 0 {
		return nil
	}
	m := make(map[string]string, len(s.allowed))
	for name := range s.allowed {
		if values, ok := header[name]; ok {
			m[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	return m
}

// outgoing returns the request that the forwarder sends, to the admission's canonical
// target; the client's Host field is ignored (RFC 9112 section 3.2.2).
func outgoing(ctx context.Context, method string, header http.Header, h *head, b *body, a *proxy.Admission) *http.Request {
	path, query, hasQuery := strings.Cut(a.Path, "?")
	host := a.Target.String()
	if a.Target.Port == 80 {
		host = strings.TrimSuffix(host, ":80")
	}
	u := &url.URL{Scheme: "http", Host: host, RawPath: path, RawQuery: query, ForceQuery: hasQuery && query == ""}
	var err error
	if u.Path, err = url.PathUnescape(path); err != nil {
		u.Path = path // the gate's parser lets no such path through
	}
	r := &http.Request{
		Method:     method,
		URL:        u,
		Proto:      "HTTP/1.1",
		ProtoMajor: 1,
		ProtoMinor: 1,
		Header:     header,
		Host:       host,
		RemoteAddr: b.c.client.String(),
		Body:       http.NoBody,
	}
	if h.body() {
		r.Body, r.ContentLength = b, h.length
		if h.chunked {
			r.ContentLength = -1
		}
	}
	return r.WithContext(ctx)
}

// serve lets the forwarder answer, completes the answer, and reports whether the
// connection can carry another request.
func (w *response) serve(f Forwarder, r *http.Request, a *proxy.Admission) (again bool) {
	// After a panic the body may be in use still; the connection is closed then.
	defer w.body.abandonUnless(&again)
	f.Forward(w, r, a)
	if w.switched != nil {
		return false // and is not over: the caller hands the connection on
	}
	w.Finish()
	if w.refusal != nil {
		w.body.abandon()
		w.c.linger()
		return false
	}
	if w.broken {
		return false
	}
	if !w.body.abandon() || w.close {
		if w.body.c.stream.SetReadDeadline(time.Time{}) == nil {
			w.c.linger()
		}
		return false
	}
	return true
}

// abandonUnless is for a deferred call.
func (b *body) abandonUnless(again *bool) {
	if !*again {
		b.abandon()
	}
}
