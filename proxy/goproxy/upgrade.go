package goproxy

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/sallyport/sallyport/proxy"
)

// switched is a connection on which the target has agreed to speak WebSocket.
type switched struct {
	conn   proxy.Stream
	header http.Header
	behind []byte // what came together with the answer
}

var errSwitched = errors.New("goproxy: the protocol has changed")

// takeOver removes a connection with a response of 101 from the transport, if the
// response is the one to this client's handshake. It always returns an error: the library
// does not handle what follows.
func (x *exchange) takeOver(resp *http.Response) error {
	problem := unfitSwitch(resp, x.webSocket)
	if problem == "" && x.used == nil {
		problem = "its connection is not known"
	}
	if problem == "" {
		behind, err := bytesAfterHead(resp.Body, x.used.Stream)
		switch {
		case x.failed():
			_ = resp.Body.Close()
			return errReceivedLimit
		case err != nil:
			problem = "its connection broke"
		default:
			x.used.leave()
			x.switched = &switched{x.used.Stream, resp.Header, behind}
			return errSwitched
		}
	}
	_ = resp.Body.Close()
	x.fail(proxy.CauseResponseInvalid, invalid(x.admission, "the target's answer is not passed on: "+problem))
	return errors.New("goproxy: " + problem)
}

// unfitSwitch returns what is wrong with a response of 101 to a WebSocket handshake (RFC
// 6455 section 4.1). The digest of the key shows that the target has read the handshake:
// a 101 by whose status alone a relay would begin can be had from a target that continues
// reading requests.
func unfitSwitch(resp *http.Response, key string) string {
	upgrade, accept := resp.Header["Upgrade"], resp.Header["Sec-Websocket-Accept"]
	switch {
	case len(upgrade) != 1 || !strings.EqualFold(upgrade[0], "websocket"):
		return "it changes to another protocol than the client asked for"
	case !hasOption(resp.Header["Connection"], "upgrade"):
		return "it changes the protocol without Connection: Upgrade"
	case len(accept) != 1 || accept[0] != acceptOf(key):
		return "its Sec-WebSocket-Accept does not belong to the client's handshake"
	case len(resp.Header["Content-Length"]) > 0 || len(resp.TransferEncoding) > 0 || resp.ProtoMinor != 1:
		return "an answer that changes the protocol has a body"
	}
	return unfitFields(resp.Header)
}

// acceptOf is RFC 6455 section 4.2.2: SHA-1 as its authors chose it, where
// nothing depends on collisions.
func acceptOf(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

func hasOption(lists []string, option string) bool {
	for _, list := range lists {
		for member := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.Trim(member, " \t"), option) {
				return true
			}
		}
	}
	return false
}

// bytesAfterHead returns what the transport has read past the response's head. With a
// deadline in the past its buffer still returns bytes, and the connection does not.
func bytesAfterHead(body io.Reader, conn proxy.Stream) ([]byte, error) {
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		return nil, err
	}
	var behind []byte
	buf := make([]byte, 4<<10)
	for {
		n, err := body.Read(buf)
		behind = append(behind, buf[:n]...)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return behind, conn.SetDeadline(time.Time{})
}

// handOver passes the connection and the admission to the client's side. Otherwise the
// exchange has failed and ends as usual.
func (x *exchange) handOver() bool {
	s := x.switched
	clear(x.response.Header()) // without the library's fields
	for name, values := range s.header {
		x.response.Header()[name] = values
	}
	if !x.failed() && x.response.Upgrade(s.conn, s.behind) {
		return true
	}
	_ = s.conn.Close()
	x.fail(proxy.CauseClientError, nil)
	return false
}
