package frontend

import (
	"net"
	"net/http"
	"strconv"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// WriteHeader decides on the framing. Interim statuses are ignored: the only one
// that this proxy sends is its own 100 Continue.
func (w *response) WriteHeader(status int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if status >= 100 && status < 200 {
		return
	}
	w.writeHeader(status)
}

func (w *response) writeHeader(status int) {
	if w.wrote {
		return
	}
	w.wrote, w.status = true, status
	// A client that got no 100 Continue may send its body or not: the next bytes have two
	// readings.
	if w.body.pending() || w.c.server.isClosing() {
		w.close = true
	}
	w.chooseFraming()
	w.pending = w.appendHead(make([]byte, 0, 1024))
}

// Write sends content, with the head in front of it if that has not gone yet.
func (w *response) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.finished:
		return 0, errAnswered
	case !w.wrote:
		w.writeHeader(http.StatusOK)
	}
	if w.framing == noContent {
		return 0, http.ErrBodyNotAllowed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.framing == byLength && w.written+int64(len(p)) > w.length {
		w.broken = true
		return 0, errTooLong
	}
	if err := w.sendContent(p); err != nil {
		return 0, err
	}
	w.written += int64(len(p))
	return len(p), nil
}

// together is the size up to which copying is cheaper than a second system call.
const together = 16 << 10

func (w *response) sendContent(p []byte) error {
	front := w.pending
	w.pending = nil
	var tail []byte
	if w.framing == byChunks {
		front = strconv.AppendInt(front, int64(len(p)), 16)
		front = append(front, "\r\n"...)
		tail = crlf
	}
	var err error
	switch {
	case len(front) == 0:
		_, err = w.send(p)
	case len(front)+len(p) <= together:
		_, err = w.send(append(append(front, p...), tail...))
	default:
		err = w.sendAll(net.Buffers{front, p, tail})
	}
	return err
}

// Flush sends the head if it was written and is still here.
func (w *response) Flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.finished && len(w.pending) > 0 {
		_, _ = w.send(w.pending)
		w.pending = nil
	}
}

// Finish ends the response. If it is shorter than its announced length, the connection is
// broken off.
func (w *response) Finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.finished {
		return
	}
	if !w.wrote {
		w.refuse(proxy.NewRefusal(policy.InternalError, "the request got no answer"))
		return
	}
	w.finished = true
	if w.framing == byLength && w.written < w.length {
		w.broken = true
		return
	}
	end := w.pending
	w.pending = nil
	if w.framing == byChunks {
		end = append(end, "0\r\n"...)
		end = w.appendTrailer(end)
		end = append(end, "\r\n"...)
	}
	if len(end) > 0 {
		_, _ = w.send(end)
	}
}

// Refuse answers with a refusal if nothing was sent yet, and breaks the connection off
// otherwise: the client must not accept a part as a complete response.
func (w *response) Refuse(r *proxy.Refusal) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.refuse(r)
}

func (w *response) refuse(r *proxy.Refusal) {
	if w.finished {
		return
	}
	if w.wrote && len(w.pending) == 0 {
		w.finished, w.broken = true, true
		return
	}
	w.wrote, w.status, w.refusal, w.close = true, r.Status, r, true
	w.pending = nil
	_, _ = w.send(appendRefusal(nil, r, w.c.answerTo(w.c.server.config.Name, w.c.minor, w.method == http.MethodHead)))
	w.finished = true
}

// Abort breaks the connection off.
func (w *response) Abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished, w.broken = true, true
	w.pending = nil
}

// Upgrade answers 101 with the header's fields and with what the target has sent behind
// its own. If it returns true, the connection to the target and the admission belong to
// the response.
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
