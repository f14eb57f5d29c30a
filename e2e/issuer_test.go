package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// result is the result of one request under load, and when it was answered.
type result struct {
	at     time.Time
	status int
	reason string
	err    error
}

// load is steps that continue asking.
type load struct {
	stop chan struct{}
	all  sync.WaitGroup
	mu   sync.Mutex
	got  []result
}

// underLoad makes steps that request a target again and again, in turn, until end
// is called.
func (w *fixture) underLoad(to string, steps []caller) *load {
	l := &load{stop: make(chan struct{})}
	var turn atomic.Int64
	for range 3 {
		l.all.Go(func() {
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-l.stop:
					return
				case <-tick.C:
				}
				n := int(turn.Add(1))
				status, reason, err := attempt(fmt.Sprintf("127.0.5.%d", 1+n%8), w.proxy, connectTo(to, steps[n%len(steps)].basic()))
				l.mu.Lock()
				l.got = append(l.got, result{time.Now(), status, reason, err})
				l.mu.Unlock()
			}
		})
	}
	return l
}

func (l *load) end() []result {
	close(l.stop)
	l.all.Wait()
	return l.got
}

// request sends a step's request and returns its status and reason.
func (w *fixture) request(t testing.TB, c caller, to string) (status int, reason string) {
	t.Helper()
	status, reason, err := attempt("127.0.0.1", w.proxy, connectTo(to, c.basic()))
	if err != nil {
		t.Fatal(err)
	}
	return status, reason
}

// expect fails the test unless a request of the step comes to this.
func (w *fixture) expect(t testing.TB, c caller, to string, status int, reason string) {
	t.Helper()
	if s, r := w.request(t, c, to); s != status || r != reason {
		t.Fatalf("answered %d %q, want %d %q", s, r, status, reason)
	}
}

// detail is the workspace's part of /readyz, and the status of /readyz.
func (w *fixture) detail(t testing.TB) (status int, d map[string]string) {
	t.Helper()
	status, answer := w.readyz()
	raw, err := json.Marshal(answer["detail"])
	if err != nil {
		t.Fatal(err)
	}
	var all struct{ Identity map[string]map[string]string }
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	return status, all.Identity[w.Workspace.Slug()]
}

// TestIssuerUnavailable: the issuer is killed under load, rotates its key while it is
// unavailable, and recovers. Tokens of known keys pass up to the maximum age of the
// keys, unknown keys are 503 and never 407, and then all is well. /readyz and the
// metrics report each stage.
func TestIssuerUnavailable(t *testing.T) {
	t.Parallel()
	const age = 20 * time.Second
	w := newFixture(t, options{identity: "  jwks_max_age: 20s\n"})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	old := w.Workspace.Key()
	signed := func(k *bitbuckettest.Key) caller {
		return w.callerWith(w.Payments, nil, "main", bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}, Key: k})
	}
	known := make([]caller, 40)
	for i := range known {
		known[i] = signed(old)
	}
	w.expect(t, known[0], to, 200, "")
	fails := `sallyport_key_fetches_total{result="failed",workspace="acme"}`
	if n := w.counter(t, fails); n != 0 {
		t.Errorf("%v fetches failed", n)
	}

	l := w.underLoad(to, known)
	w.Bitbucket.Stop()
	fresh := signed(w.Workspace.RotateKey(false))
	w.expect(t, signed(old), to, 200, "") // a token of a known key, first seen now
	w.expect(t, fresh, to, 503, "keys_unavailable")
	eventually(t, "the failure of a fetch is told", func() bool {
		status, d := w.detail(t)
		return w.counter(t, fails) > 0 && status == 200 && d["keys_error"] != "" && d["keys_usable"] == "true"
	})
	if n := w.counter(t, "sallyport_keys_unusable"); n != 0 {
		t.Errorf("keys are unusable: %v", n)
	}
	_, d := w.detail(t)
	fetched, err := time.Parse(time.RFC3339, d["keys_fetched"])
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the keys are too old", func() bool {
		w.expect(t, fresh, to, 503, "keys_unavailable") // all the while
		return w.counter(t, "sallyport_keys_unusable") == 1
	})
	if got := time.Since(fetched); got < age {
		t.Errorf("the keys were given up %v after their fetch", got)
	}
	w.expect(t, known[0], to, 503, "keys_unavailable")
	w.expect(t, signed(old), to, 503, "keys_unavailable")
	if status, d := w.detail(t); status != 503 || d["keys_usable"] != "false" {
		t.Errorf("/readyz is %d: %v", status, d)
	}
	if n := time.Since(time.UnixMilli(int64(1000 * w.counter(t, "sallyport_keys_last_fetch_timestamp_seconds")))); n < age {
		t.Errorf("the keys are reported to be %v old", n)
	}
	got := l.end()
	for _, r := range got {
		switch {
		case r.err != nil:
			t.Fatalf("no answer: %v", r.err)
		case r.status == 200 && r.at.Before(fetched.Add(age+3*time.Second)):
		case r.status == 503 && r.reason == "keys_unavailable" && r.at.After(fetched.Add(age)):
		default:
			t.Fatalf("%v after the last fetch a known token got %d %s", r.at.Sub(fetched), r.status, r.reason)
		}
	}
	t.Logf("%d requests under load", len(got))

	if err := w.Bitbucket.Start(""); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new key is known", func() bool {
		status, reason := w.request(t, fresh, to)
		if status != 200 && reason != "keys_unavailable" {
			t.Fatalf("answered %d %s", status, reason)
		}
		return status == 200
	})
	// A withdrawn key is not trusted, although it was cached.
	w.expect(t, known[0], to, 407, "credential_key_unknown")
	w.ready()
	if status, d := w.detail(t); status != 200 || d["keys_error"] != "" || d["keys_usable"] != "true" || w.counter(t, "sallyport_keys_unusable") != 0 {
		t.Errorf("/readyz is %d: %v", status, d)
	}
}

// TestAPIUnavailable: the same for the REST API and names. Known ones serve up to their
// maximum age, one that was never known is 503, and then all is well.
func TestAPIUnavailable(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{identity: "  name_cache_max_age: 12s\n  name_lookup_timeout: 300ms\n"})
	w.start()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	steps := make([]caller, 40)
	for i := range steps {
		steps[i] = w.anybody()
	}
	known := w.anybody()
	w.expect(t, known, to, 200, "")
	l := w.underLoad(to, steps)
	away := w.Bitbucket.Inject(bitbuckettest.REST, bitbuckettest.Resetting())
	began := time.Now()
	fresh := w.Workspace.AddRepository("fresh", "PAY")
	stranger := w.caller(fresh, nil, "main")
	w.expect(t, stranger, to, 503, "names_unavailable")
	w.expect(t, w.anybody(), to, 200, "")
	eventually(t, "the failure is told", func() bool {
		_, d := w.detail(t)
		return d["names_error"] != "" && w.counter(t, "sallyport_names_failing") == 1 &&
			w.counter(t, `sallyport_name_requests_total{result="failed",workspace="acme"}`) > 0
	})
	eventually(t, "the names are too old", func() bool {
		status, reason := w.request(t, known, to)
		if status != 200 && reason != "names_unavailable" {
			t.Fatalf("answered %d %s", status, reason)
		}
		return status == http.StatusServiceUnavailable
	})
	if n := time.Since(time.UnixMilli(int64(1000 * w.counter(t, "sallyport_names_last_response_timestamp_seconds")))); n < 10*time.Second {
		t.Errorf("the API is reported to have answered %v ago", n)
	}
	if status, _ := w.detail(t); status != 200 {
		t.Errorf("/readyz is %d: what is denied needs no name", status)
	}
	for _, r := range l.end() {
		if r.err != nil || r.status != 200 && (r.reason != "names_unavailable" || r.at.Sub(began) < 5*time.Second) {
			t.Fatalf("%v after it went away: %d %s %v", r.at.Sub(began), r.status, r.reason, r.err)
		}
	}
	away.Clear()
	for _, c := range []caller{known, stranger} {
		eventually(t, "the names are there again", func() bool {
			status, reason := w.request(t, c, to)
			if status != 200 && reason != "names_unavailable" {
				t.Fatalf("answered %d %s", status, reason)
			}
			return status == 200
		})
	}
	eventually(t, "that is told", func() bool {
		_, d := w.detail(t)
		return d["names_error"] == "" && w.counter(t, "sallyport_names_failing") == 0
	})
}
