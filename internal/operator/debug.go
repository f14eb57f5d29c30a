package operator

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/pprof"
	"runtime/trace"
	"sync"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/pause"
)

// actionDebug is the action of the event.
const actionDebug = "debug"

// debugging implements [admin.Debug]. What it returns has names of functions, counts, sizes
// and times, and no contents of memory: no credential, no target.
type debugging struct {
	record func(ctx context.Context, by admin.Operator, action, reason string, details ...func(*audit.Event)) error
	busy   *sync.Mutex // one request at a time: a second profile would change the first
}

// Collect records the request, and then collects.
func (d debugging) Collect(ctx context.Context, by admin.Operator, r admin.DebugRequest) (admin.DebugData, error) {
	if err := checkDebug(r); err != nil {
		return admin.DebugData{}, err
	}
	if !d.busy.TryLock() {
		return admin.DebugData{}, errors.New("another debug command is collecting: wait until it has ended")
	}
	defer d.busy.Unlock()
	if err := d.record(ctx, by, actionDebug, "", attribute("debug_kind", r.Kind), attribute("debug_duration", r.Duration.String())); err != nil {
		return admin.DebugData{}, err
	}
	out := &boundedBuffer{}
	err := collect(ctx, r, out)
	if out.over {
		err = &admin.Mistake{Message: fmt.Sprintf("the data are longer than %d MiB: choose a shorter --duration", admin.MaxDebugBytes>>20)}
	}
	if err != nil {
		return admin.DebugData{}, err
	}
	return admin.DebugData{Data: out.Bytes()}, nil
}

// checkDebug checks a request. It starts nothing.
func checkDebug(r admin.DebugRequest) error {
	switch r.Kind {
	case admin.DebugProfile, admin.DebugTrace:
		if r.Duration <= 0 || r.Duration > admin.MaxDebugDuration {
			return &admin.Mistake{Message: fmt.Sprintf("--duration %v: it is not between 0s and %v: choose another one", r.Duration, admin.MaxDebugDuration)}
		}
	case admin.DebugGoroutines, admin.DebugHeap:
		if r.Duration != 0 {
			return &admin.Mistake{Message: "a duration is for profile and trace only: omit it"}
		}
	default:
		return &admin.Mistake{Message: fmt.Sprintf("debug kind %q: this instance does not know it: is it of another version?", r.Kind)}
	}
	return nil
}

// collect writes a description of the process.
func collect(ctx context.Context, r admin.DebugRequest, out *boundedBuffer) error {
	switch r.Kind {
	case admin.DebugProfile:
		if err := pprof.StartCPUProfile(out); err != nil {
			return fmt.Errorf("start a CPU profile: %w", err)
		}
		defer pprof.StopCPUProfile()
	case admin.DebugTrace:
		if err := trace.Start(out); err != nil {
			return fmt.Errorf("start an execution trace: %w", err)
		}
		defer trace.Stop()
	case admin.DebugHeap:
		runtime.GC() // the profile is of the latest collection
		return pprof.Lookup("heap").WriteTo(out, 0)
	default:
		// Without the format 2, whose stacks have the arguments of functions.
		return pprof.Lookup("goroutine").WriteTo(out, 1)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out.onLimit(cancel)
	pause.For(ctx, r.Duration)
	return nil
}

// boundedBuffer keeps at most [admin.MaxDebugBytes]. It is safe for concurrent use until
// it is read.
type boundedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
	over  bool
	limit func()
}

func (b *boundedBuffer) onLimit(call func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.limit = call
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over || b.Len()+len(p) > admin.MaxDebugBytes {
		if b.over = true; b.limit != nil {
			b.limit()
		}
		return 0, errors.New("too long")
	}
	return b.Buffer.Write(p)
}
