package forwarder

import (
	"sync"
	"time"

	"github.com/sallyport/sallyport/step/upstream"
)

// maxRemembered bounds the remembered denials.
const maxRemembered = 1000

// denialKey is a request that gets the same response again: the target of a CONNECT, or
// the method and the URL of a request.
type denialKey struct{ method, target string }

// denials remembers for some seconds what the policy denied: pip, cargo, yarn, apt and aws
// repeat a refused request for up to 12 seconds.
type denials struct {
	keep time.Duration
	now  func() time.Time

	mu    sync.Mutex
	known map[denialKey]remembered
}

type remembered struct {
	refusal *upstream.Refusal
	until   time.Time
}

func newDenials(keep time.Duration) *denials {
	return &denials{keep: keep, now: time.Now, known: make(map[denialKey]remembered)}
}

// recall returns the denial of the same request; nil: none.
func (d *denials) recall(k denialKey) *upstream.Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	known, ok := d.known[k]
	if !ok || !d.now().Before(known.until) {
		return nil
	}
	return known.refusal
}

// remember keeps a denial, unless there are too many.
func (d *denials) remember(k denialKey, r *upstream.Refusal) {
	if d.keep <= 0 || len(k.target) > 4<<10 {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.now()
	if len(d.known) >= maxRemembered {
		for k, known := range d.known {
			if !now.Before(known.until) {
				delete(d.known, k)
			}
		}
	}
	if len(d.known) < maxRemembered {
		d.known[k] = remembered{r, now.Add(d.keep)}
	}
}
