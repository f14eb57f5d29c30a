package worker

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// programName is the first argument of a worker process, by which [Main] knows it.
const programName = "sallyport-policy-worker"

// Handler answers requests in a worker, one at a time. It recovers its own panics.
type Handler interface {
	// Handle returns the reply to a request. The request is only valid during the call.
	Handle(request []byte) (reply []byte)
	// Retire reports whether the process should be replaced because of the memory that
	// it holds. The process then ends, and the pool starts another.
	Retire() bool
}

// handled is set once this program has called [Main].
var handled atomic.Bool

// Main serves calls and does not return if a pool started this process as a worker.
// Otherwise it returns at once. A program must call Main before it reads flags, files
// or its environment; without that call, a pool cannot start workers. makeHandler is
// called in workers only.
func Main(makeHandler func() Handler) {
	handled.Store(true)
	if len(os.Args) != 2 || os.Args[0] != programName {
		keepInherited()
		return
	}
	var limits Limits
	if err := json.Unmarshal([]byte(os.Args[1]), &limits); err != nil {
		fmt.Fprintf(os.Stderr, "%s: the limits: %v\n", programName, err)
		os.Exit(2)
	}
	in, out := os.Stdin, os.Stdout
	os.Stdout = os.Stderr // the pool accepts only replies from the original
	handler := makeHandler()
	if err := confine(limits); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", programName, err)
		os.Exit(2)
	}
	if err := serve(in, out, handler); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", programName, err)
		os.Exit(2)
	}
	os.Exit(0)
}

// flushAfter is how many nanoseconds of processor time replies wait for those that
// follow in a batch.
const flushAfter = 200_000

// serve answers requests in their order until the pool closes the stream or the
// handler retires.
func serve(in io.Reader, out io.Writer, handler Handler) error {
	reader := bufio.NewReaderSize(in, 64<<10)
	// The pool waits for the first message: it begins to measure a call when the
	// process is ready.
	pending := appendFrame(nil, frame{message: []byte(programName)})
	since := uint64(0)
	for {
		if len(pending) > 0 && (reader.Buffered() == 0 || since > flushAfter || len(pending) > 32<<10) {
			if _, err := out.Write(pending); err != nil {
				return fmt.Errorf("write a reply: %w", err)
			}
			pending, since = pending[:0], 0
			if cap(pending) > 1<<20 {
				pending = nil
			}
			if reader.Buffered() == 0 && handler.Retire() {
				return nil
			}
		}
		request, err := readFrame(reader, maxMessage)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		began := processorTime()
		reply := handler.Handle(request.message)
		took := uint64(processorTime() - began)
		since += took
		pending = appendFrame(pending, frame{id: request.id, cpu: took, message: reply})
	}
}
