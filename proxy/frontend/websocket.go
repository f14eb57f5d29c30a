package frontend

import (
	"encoding/base64"
	"net/http"

	"github.com/sallyport/sallyport/proxy"
)

// Of all protocols that a request can change to, only WebSocket is relayed (RFC
// 6455). HTTP/2 above all is not: a client could send requests in it that have no
// decision. Such an Upgrade is dropped, as RFC 9110 section 7.8 allows, and the target
// answers in HTTP/1.1.

// wantsWebSocket reports whether a request asks for WebSocket.
func (h *head) wantsWebSocket() bool {
	if !h.upgrade {
		return false
	}
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
