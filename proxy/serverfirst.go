package proxy

import "io"

// relayDown relays what the target sends. In a tunnel whose ClientHello is being checked it
// waits: only report mode starts it before the check has ended.
//
// Report mode must not delay a protocol whose server sends first. Once the target has sent
// a byte, the client cannot be about to send an HTTP request, and the bytes are relayed.
func (t *tunnel) relayDown(checked <-chan struct{}) {
	if checked != nil {
		first := make([]byte, 2<<10)
		n, err := t.upstream.Read(first[:max(1, t.down.allowance(len(first)))])
		if n == 0 {
			<-checked // an end without a byte is relayed once the check is done
		}
		if !t.serverBegins() {
			return // the client's connection belongs to its request
		}
		if end, done := t.relayFirst(first[:n], err); done {
			t.finish(end, false)
			return
		}
	}
	t.finish(t.relay(t.client, t.upstream, t.down), false)
}

// serverBegins notes that the target's bytes are relayed from here on, and reports whether
// they may be.
func (t *tunnel) serverBegins() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.serverFirst = true
	return !t.leavesClient
}

// relayFirst writes the target's first bytes to the client. done is true if the direction
// has ended.
func (t *tunnel) relayFirst(b []byte, err error) (end ending, done bool) {
	granted := t.down.reserve(len(b))
	n, werr := t.client.Write(b[:granted])
	t.down.unreserve(granted - n)
	t.touch()
	switch {
	case werr != nil:
		return ending{err: werr, wrote: true}, true
	case granted < len(b):
		return ending{limit: true}, true
	case err == io.EOF:
		return ending{}, true
	case err != nil:
		return ending{err: err}, true
	}
	return ending{}, false
}
