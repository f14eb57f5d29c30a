package forwarder

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// request serves a request in absolute-form.
func (f *Forwarder) request(w http.ResponseWriter, r *http.Request) {
	if refusal := unfit(r); refusal != nil {
		f.refused(Refusal{Action: "request", Method: r.Method, Target: shownURL(r.RequestURI), Refusal: *refusal})
		f.refuse(w, r, refusal)
		return
	}
	key := denialKey{r.Method, r.RequestURI}
	if refusal := f.denied.recall(key); refusal != nil {
		f.stats.repeated(r.Method, shownURL(r.RequestURI), hostOf(r.RequestURI), refusal.Reason, refusal.DecisionID)
		f.refuse(w, r, refusal)
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	defer cancel()
	defer context.AfterFunc(f.ctx, cancel)()
	var responded atomic.Bool
	// net/http ends the request's context when the tool ends its direction. The tool may
	// still read the response, or have gone.
	defer context.AfterFunc(r.Context(), func() {
		time.AfterFunc(f.config.HalfClosedTimeout, func() {
			if !responded.Load() {
				cancel()
			}
		})
	})()
	content := &toolContent{ReadCloser: r.Body}
	if r.Body != http.NoBody {
		r.Body = content
	}
	proxy := httputil.ReverseProxy{
		Rewrite:       rewrite,
		Transport:     f.config.Upstream,
		FlushInterval: -1, // at once
		ErrorLog:      f.server.ErrorLog,
		BufferPool:    bufferPool{},
		ModifyResponse: func(resp *http.Response) error {
			responded.Store(true)
			return f.responded(resp, r, key)
		},
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			if e, ok := errors.AsType[*refusedError](err); ok {
				f.refuse(w, r, e.shown)
				return
			}
			if content.failed.Load() || ctx.Err() != nil {
				panic(http.ErrAbortHandler) // the tool has gone: closes its connection
			}
			refusal, shown := failure(err), (*upstream.Refusal)(nil)
			if e, ok := errors.AsType[*upstream.RefusedError](err); ok {
				refusal, shown = e.Refusal, f.config.final(e.Refusal)
			}
			f.refused(Refusal{Action: "request", Method: r.Method, Target: shownURL(key.target), Refusal: *refusal})
			f.refuse(w, r, cmp.Or(shown, refusal))
		},
	}
	proxy.ServeHTTP(w, r.WithContext(ctx))
}

// toolContent is the content of a request. It records that the tool did not send all.
type toolContent struct {
	io.ReadCloser
	failed atomic.Bool
}

func (c *toolContent) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	if err != nil && err != io.EOF && err != http.ErrBodyReadAfterClose { // which the transport causes
		c.failed.Store(true)
	}
	return n, err
}

// unfit refuses what is not a request to a proxy for http://.
func unfit(r *http.Request) *upstream.Refusal {
	switch scheme, _, found := strings.Cut(r.RequestURI, "://"); {
	case !found:
		return local(http.StatusBadRequest, requestInvalid, "this is a proxy, and the request names no absolute URL", "use the address as a proxy, not as a server")
	case !strings.EqualFold(scheme, "http"):
		return local(http.StatusBadRequest, requestInvalid, "a request with the scheme "+scheme+" cannot be sent to a proxy", "use CONNECT for https, as most clients do by themselves")
	case r.URL.Host == "":
		return local(http.StatusBadRequest, targetInvalid, "the URL has no host", "correct the URL")
	}
	return nil
}

// rewrite makes the request to Sallyport. net/http has removed the hop-by-hop fields,
// Proxy-Authorization among them, and keeps Upgrade. The URL is sent as the tool wrote it:
// net/url would change some escapes.
func rewrite(p *httputil.ProxyRequest) {
	_, opaque, _ := strings.Cut(p.In.RequestURI, ":")
	p.Out.URL = &url.URL{Scheme: "http", Host: p.In.URL.Host, Opaque: opaque}
	p.Out.Host = p.In.Host
	for name := range p.Out.Header {
		if strings.HasPrefix(name, "Proxy-") {
			delete(p.Out.Header, name)
		}
	}
	// These fields are removed for reverse proxies.
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"} {
		if values, ok := p.In.Header[name]; ok {
			p.Out.Header[name] = values
		}
	}
	// The content's trailer fields end here (RFC 9110 section 6.5.1 permits it).
	p.Out.Trailer = nil
	p.Out.Header.Del("Te")
}

// refusedError passes a refusal from a response to its writing.
type refusedError struct{ shown *upstream.Refusal }

func (e *refusedError) Error() string { return "refused: " + e.shown.Reason }

// responded counts a response. It returns a refusal as an error.
func (f *Forwarder) responded(resp *http.Response, r *http.Request, key denialKey) error {
	if !upstream.IsRefusal(resp.Header) {
		f.stats.allowed(hostOf(key.target))
		if resp.StatusCode == http.StatusProxyAuthRequired {
			// No tool has a credential for another proxy behind Sallyport.
			resp.StatusCode, resp.Status = http.StatusForbidden, "403 Forbidden"
		}
		return nil
	}
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	_ = resp.Body.Close()
	refusal := upstream.ParseRefusal(resp.StatusCode, resp.Header, string(text))
	shown := f.config.final(refusal)
	if refusal.ByPolicy() {
		f.denied.remember(key, shown)
	}
	f.refused(Refusal{Action: "request", Method: r.Method, Target: shownURL(key.target), Refusal: *refusal})
	return &refusedError{shown}
}

// refuse answers a request that is not passed on, and ends the connection. It writes to the
// connection itself, because net/http writes a status line without the reason.
func (f *Forwarder) refuse(w http.ResponseWriter, r *http.Request, refusal *upstream.Refusal) {
	t, _ := f.takeOver(w)
	if t == nil {
		return
	}
	defer f.end(t)
	b := answer(refusal)
	if r.Method == http.MethodHead {
		head, _, _ := bytes.Cut(b, []byte("\r\n\r\n"))
		b = append(head, "\r\n\r\n"...)
	}
	t.answerAndLinger(b)
}

// shownURL is a URL without user information, query and fragment, which may be secret.
func shownURL(raw string) string {
	raw, _, _ = strings.Cut(raw, "?")
	raw, _, _ = strings.Cut(raw, "#")
	scheme, after, found := strings.Cut(raw, "://")
	if !found {
		return raw
	}
	authority, path, _ := strings.Cut(after, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		authority = authority[i+1:]
	}
	return scheme + "://" + authority + "/" + path
}

// hostOf is the host and port of a target, which is host:port or an http:// URL.
func hostOf(target string) string {
	_, after, found := strings.Cut(shownURL(target), "://")
	if !found {
		return target
	}
	authority, _, _ := strings.Cut(after, "/")
	if _, _, err := net.SplitHostPort(authority); err != nil {
		authority += ":80"
	}
	return authority
}

// bufferPool shares the relays' buffers with [httputil.ReverseProxy].
type bufferPool struct{}

func (bufferPool) Get() []byte  { return *buffers.Get().(*[]byte) }
func (bufferPool) Put(b []byte) { buffers.Put(&b) }
