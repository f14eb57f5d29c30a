package sealer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// place is one publisher with a goroutine of its own: a slow or dead place delays
// nothing else. Only the newest checkpoint waits, for it covers those before.
type place struct {
	publisher Publisher
	log       *slog.Logger
	wake      chan struct{}
	ended     chan struct{}
	ctx       context.Context
	cancel    context.CancelFunc

	checked map[string]bool // recent checkpoints of the place that the database has
	unread  string          // why it was not read the last time

	mu      sync.Mutex
	waiting []byte
	size    int64
	signed  time.Time // of the checkpoint of that size
	failed  int64
	err     error
	closing bool
}

// How long between attempts to publish, and how long one may take.
const (
	firstRetry     = time.Second
	lastRetry      = time.Minute
	publishTimeout = 15 * time.Second
)

func newPlace(p Publisher, log *slog.Logger) *place {
	l := &place{publisher: p, log: log.With("place", p.Name()), wake: make(chan struct{}, 1), ended: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	go l.run()
	return l
}

// put gives the place a newer checkpoint.
func (p *place) put(note []byte) {
	p.mu.Lock()
	p.waiting = note
	p.mu.Unlock()
	p.stir()
}

func (p *place) stir() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *place) run() {
	defer close(p.ended)
	pause := time.Duration(0)
	for {
		var retry <-chan time.Time
		if pause > 0 {
			retry = time.After(pause)
		}
		select {
		case <-p.wake:
		case <-retry:
		case <-p.ctx.Done():
			return
		}
		p.mu.Lock()
		note, closing := p.waiting, p.closing
		p.mu.Unlock()
		if note != nil {
			if p.publish(note) {
				pause = 0
			} else {
				pause = min(max(2*pause, firstRetry), lastRetry)
			}
		}
		if closing {
			return
		}
	}
}

// publish makes one attempt.
func (p *place) publish(note []byte) bool {
	ctx, cancel := context.WithTimeout(p.ctx, publishTimeout)
	err := p.publisher.Publish(ctx, note)
	cancel()
	p.mu.Lock()
	defer p.mu.Unlock()
	was := p.err
	p.err = err
	if err != nil {
		p.failed++
		if was == nil || was.Error() != err.Error() {
			p.log.Error("a checkpoint was not published; it is tried again", "error", err)
		}
		return false
	}
	if was != nil {
		p.log.Info("checkpoints are published again")
	}
	if c, err := audit.ReadCheckpoint(note); err == nil {
		p.size, p.signed = c.Size, c.Time
	}
	if string(p.waiting) == string(note) {
		p.waiting = nil
	}
	return true
}

// lacks reports whether the place does not have a checkpoint or a newer one.
func (p *place) lacks(c audit.Checkpoint) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return c.Compare(audit.Checkpoint{Size: p.size, Time: p.signed}) > 0
}

// close publishes what waits, once, and ends the goroutine.
func (p *place) close(ctx context.Context) {
	p.mu.Lock()
	p.closing = true
	p.mu.Unlock()
	p.stir()
	select {
	case <-p.ended:
	case <-ctx.Done():
		p.cancel()
		<-p.ended
	}
	p.cancel()
}

func (p *place) status() PlaceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PlaceStatus{Name: p.publisher.Name(), Size: p.size, Failed: p.failed, Err: p.err}
}
