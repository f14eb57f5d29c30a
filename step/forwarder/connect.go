package forwarder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// connect serves a CONNECT. It takes the connection from net/http before it answers: a
// refused CONNECT ends its connection, since bytes behind it must not be read as a
// request, and an open tunnel needs the bytes that came together with the CONNECT.
func (f *Forwarder) connect(w http.ResponseWriter, r *http.Request) {
	// The raw target: net/http and net/url drop a path or user information, and Sallyport
	// has to refuse it.
	target, minor := r.RequestURI, r.ProtoMinor
	t, reader := f.takeOver(w)
	if t == nil {
		return
	}
	defer f.end(t)
	early, _ := reader.Peek(reader.Buffered()) // a CONNECT has no content: nothing else reads
	stream, refusal := f.open(f.ctx, "connect", target)
	if refusal != nil {
		t.answerAndLinger(answer(refusal))
		return
	}
	// Some clients wait for a field in this response (apk before Alpine 3.13.1).
	established := fmt.Appendf(nil, "HTTP/1.%d 200 Connection established\r\nProxy-Status: sallyport-step\r\n\r\n", minor)
	if t.SetDeadline(time.Time{}) != nil {
		_ = stream.Close()
		return
	}
	if _, err := t.Write(established); err != nil {
		_ = stream.Close()
		return
	}
	f.relay(target, t, early, stream)
}

// Connect opens a tunnel for another listener of the step, such as a forwarded port. The
// tunnel is counted as that of a tool's CONNECT, and [Forwarder.Close] closes it. Connect
// prints the cause of an error itself.
func (f *Forwarder) Connect(ctx context.Context, target string) (upstream.Stream, error) {
	stream, refusal := f.open(ctx, "connect", target)
	if refusal != nil {
		return nil, errors.New(Refusal{Action: "connect", Target: target, Refusal: *refusal}.text())
	}
	if !f.track(stream) {
		_ = stream.Close()
		return nil, errors.New("the forwarder has ended")
	}
	return &countedStream{Stream: stream, forwarder: f, target: target}, nil
}

// countedStream counts the bytes of a tunnel, and reports them when it is closed.
type countedStream struct {
	upstream.Stream
	forwarder      *Forwarder
	target         string
	sent, received atomic.Int64
	broken         atomic.Bool
	close          sync.Once
}

func (c *countedStream) Read(b []byte) (int, error) {
	n, err := c.Stream.Read(b)
	c.received.Add(int64(n))
	c.note(err)
	return n, err
}

func (c *countedStream) Write(b []byte) (int, error) {
	n, err := c.Stream.Write(b)
	c.sent.Add(int64(n))
	c.note(err)
	return n, err
}

// note notes an error that is not the end of a direction.
func (c *countedStream) note(err error) {
	if err != nil && !errors.Is(err, io.EOF) && !isEnded(err) {
		c.broken.Store(true)
	}
}

func (c *countedStream) Close() error {
	err := c.Stream.Close()
	c.close.Do(func() {
		c.forwarder.forget(c.Stream)
		c.forwarder.stats.closed(c.target, c.sent.Load(), c.received.Load(), c.broken.Load())
	})
	return err
}

// open opens a tunnel, and counts and prints the result. The request does not end when the
// tool ends its own direction, which net/http reports as the end of the request's context.
func (f *Forwarder) open(ctx context.Context, action, target string) (upstream.Stream, *upstream.Refusal) {
	key := denialKey{target: target}
	if r := f.denied.recall(key); r != nil {
		f.stats.repeated("", target, target, r.Reason, r.DecisionID)
		return nil, r
	}
	stream, refusal, err := f.config.Upstream.Connect(ctx, target)
	if err != nil {
		refusal = failure(err)
	}
	if refusal == nil {
		f.stats.allowed(target)
		return stream, nil
	}
	shown := f.config.final(refusal)
	if refusal.ByPolicy() {
		f.denied.remember(key, shown)
	}
	f.refused(Refusal{Action: action, Target: target, Refusal: *refusal})
	return nil, shown
}
