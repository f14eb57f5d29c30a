package frontend

import (
	"encoding/base64"
	"net/http"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// Of all protocols that a request can change to, WebSocket alone is passed on
// (RFC 6455). HTTP/2 above all is not: in it a client could send requests that
// nobody decides on. Such a wish is dropped, as RFC 9110 section 7.8 allows, and
// the target answers in HTTP/1.1.

// switched is an answer of 101 that was given: the connection is to be relayed.
type switched struct {
	admission *proxy.Admission
	upstream  proxy.Stream
}

func (h *head) wantsWebSocket() bool {
	for _, f := range h.fields {
		if is(f.name, "upgrade") && is(f.value, "websocket") {
			return true
		}
	}
	return false
}

// checkWebSocket refuses what asks for WebSocket and is not its handshake (RFC
// 6455 section 4.1): a proxy and a target that disagree about whether the
// protocol has changed disagree about what is a request.
func (h *head) checkWebSocket(header http.Header) *proxy.Refusal {
	upgrades := 0
	for _, f := range h.fields {
		if is(f.name, "upgrade") {
			upgrades++
		}
	}
	key := header["Sec-Websocket-Key"]
	switch {
	case upgrades != 1:
		return malformed("there are two Upgrade fields")
	case string(h.method) != http.MethodGet || h.minor != 1:
		return malformed("a WebSocket handshake is an HTTP/1.1 GET")
	case h.body() || h.has.expect:
		return malformed("a WebSocket handshake has a body")
	case len(key) != 1 || !isWebSocketKey(key[0]):
		return malformed("a WebSocket handshake has one Sec-WebSocket-Key of 16 bytes in base64")
	}
	return nil
}

func isWebSocketKey(s string) bool {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 16 && len(s) == 24
}

// Upgrade answers 101 with the header's fields and with what the target has said
// behind its own. If it returns true, the connection to the target and the
// admission are not the caller's any more.
func (w *response) Upgrade(target proxy.Stream, behind []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished || w.wrote || w.broken {
		return false
	}
	for _, list := range w.header["Connection"] {
		dropNominated(w.header, list)
	}
	addVia(w.header, 1, w.c.server.config.Pseudonym)
	b := append([]byte(nil), "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket"...)
	b = w.appendFields(b, w.header)
	b = append(append(b, "\r\n\r\n"...), behind...)
	w.wrote, w.finished, w.status = true, true, http.StatusSwitchingProtocols
	if _, err := w.send(b); err != nil {
		return false
	}
	w.switched = &switched{upstream: target}
	return true
}

// handOver makes the connection a tunnel, behind an answer of 101.
func (c *conn) handOver() (handed bool) {
	s := c.switched
	if c.stream.SetDeadline(time.Time{}) != nil {
		_ = s.upstream.Close()
		sent, received := s.admission.Moved()
		s.admission.Close(proxy.Outcome{Cause: proxy.CauseClientError, Sent: sent, Received: received,
			Status: http.StatusSwitchingProtocols, UpstreamStatus: http.StatusSwitchingProtocols})
		return false
	}
	c.becomeTunnel(&handover{admission: s.admission, upstream: s.upstream, upgraded: true})
	return true
}
