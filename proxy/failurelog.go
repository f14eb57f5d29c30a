package proxy

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// failureInterval is the minimum interval between two log lines of one kind of failure.
const failureInterval = time.Minute

// failureLog writes log lines about events that cannot be recorded. During an outage
// every request fails, and the recorder logs the begin and the end of the outage. The
// first failure of a kind is logged at once. Further ones are counted, and their number
// is logged once per [failureInterval]. The zero value is ready. It is safe for
// concurrent use.
type failureLog struct {
	mu    sync.Mutex
	kinds map[string]*failures // by message, which is a constant
}

// failures are those of one kind since its latest log line.
type failures struct {
	count  int
	latest error
}

// failed notes a failure with a constant message. The attributes are those of the log
// line, if this is the first failure of an interval.
func (f *failureLog) failed(ctx context.Context, log *slog.Logger, message string, err error, attributes ...slog.Attr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of := f.kinds[message]; of != nil {
		of.count, of.latest = of.count+1, err
		return
	}
	if f.kinds == nil {
		f.kinds = make(map[string]*failures)
	}
	of := &failures{}
	f.kinds[message] = of
	log.LogAttrs(ctx, slog.LevelError, message, append(attributes, slog.Any("error", err))...)
	time.AfterFunc(failureInterval, func() { f.next(log, message, of) })
}

// next ends an interval. It logs the number of failures and begins another interval, or
// forgets the kind if there were none.
func (f *failureLog) next(log *slog.Logger, message string, of *failures) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if of.count == 0 {
		delete(f.kinds, message)
		return
	}
	log.Error(message, "count", of.count, "interval", failureInterval, "error", of.latest)
	of.count, of.latest = 0, nil
	time.AfterFunc(failureInterval, func() { f.next(log, message, of) })
}
