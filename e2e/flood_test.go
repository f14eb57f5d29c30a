package e2e

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/testenv"
)

// attempt sends the head of a request from an address of this machine and returns
// the answer's status and reason. Unlike speak it may be used off the test's goroutine.
func attempt(from, to, head string) (status int, reason string, err error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, head); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return 0, "", err
	}
	return resp.StatusCode, resp.Header.Get("Sallyport-Reason"), nil
}

// onslaught is the outcome of forged tokens that were sent while honest steps continued.
type onslaught struct {
	sent    int
	took    time.Duration
	reasons map[string]int
	failed  []error // attempts without an answer

	honest  int
	refused map[string]int  // of the honest
	waits   []time.Duration // of the honest
	keys    []time.Time     // when the issuer was asked
}

func (f *onslaught) String() string {
	slices.Sort(f.waits)
	quantile := func(q float64) time.Duration {
		if len(f.waits) == 0 {
			return 0
		}
		return f.waits[int(q*float64(len(f.waits)-1))].Round(time.Millisecond / 10)
	}
	return fmt.Sprintf("%d forged tokens in %v (%.0f a second): %v, %d without an answer; the issuer was asked %d times; %d honest requests, refused %v, half of them within %v, 99%% within %v, all within %v",
		f.sent, f.took.Round(time.Millisecond), float64(f.sent)/f.took.Seconds(), f.reasons, len(f.failed), len(f.keys),
		f.honest, f.refused, quantile(.5), quantile(.99), quantile(1))
}

// forgeries sends so many forged tokens a second, each naming a key of its own,
// from several addresses, while honest steps continue.
func (w *fixture) forgeries(t *testing.T, perSecond int, duration time.Duration) *onslaught {
	t.Helper()
	target := echo(t)
	to := "raw.partner.example:" + target.port
	step := w.Payments.Run("main").Step(nil)
	forged := strings.Split(w.Bitbucket.NewKey("", "RS256").Sign(nil, step.Claims(bitbuckettest.TokenOptions{Audiences: []string{testenv.Audience}})), ".")
	honest := make([]caller, 50)
	for i := range honest {
		honest[i] = w.anybody()
	}
	f := &onslaught{reasons: map[string]int{}, refused: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	begun := time.Now()
	work := make(chan int, perSecond)
	for range 2 * perSecond { // those of one address over its rate are answered after a second
		all.Go(func() {
			for n := range work {
				head := base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":"RS256","kid":"%d-%d"}`, begun.UnixNano(), n))
				token := head + "." + forged[1] + "." + forged[2]
				_, reason, err := attempt(fmt.Sprintf("127.0.1.%d", 1+n%20), w.proxy, connectTo(to, "Bearer "+token))
				mu.Lock()
				if err != nil {
					f.failed = append(f.failed, err)
				} else {
					f.reasons[reason]++
				}
				mu.Unlock()
			}
		})
	}
	stop := make(chan struct{})
	var honestly sync.WaitGroup
	honestly.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			asked := time.Now()
			// The ports of one address do not last for a minute.
			status, reason, err := attempt(fmt.Sprintf("127.0.4.%d", 1+n%8), w.proxy, connectTo(to, honest[n%len(honest)].basic()))
			f.honest++
			f.waits = append(f.waits, time.Since(asked))
			if status != http.StatusOK {
				f.refused[fmt.Sprint(status, reason, err)]++
			}
		}
	})
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for time.Since(begun) < duration {
		<-tick.C
		for due := int(time.Since(begun).Seconds() * float64(perSecond)); f.sent < due; f.sent++ {
			work <- f.sent
		}
	}
	close(work)
	all.Wait()
	f.took = time.Since(begun)
	close(stop)
	honestly.Wait()
	for _, r := range w.Bitbucket.Requests(bitbuckettest.OIDC) {
		if r.Endpoint == bitbuckettest.Keys && r.Time.After(begun) {
			f.keys = append(f.keys, r.Time)
		}
	}
	return f
}

// judge checks what a flood must not cause.
func (f *onslaught) check(t *testing.T) {
	t.Helper()
	t.Log(f)
	for i := 1; i < len(f.keys); i++ {
		if gap := f.keys[i].Sub(f.keys[i-1]); gap < 5*time.Second-100*time.Millisecond {
			t.Errorf("the issuer was asked twice within %v", gap)
		}
	}
	if len(f.refused) != 0 || f.honest == 0 {
		t.Errorf("of %d honest requests: %v", f.honest, f.refused)
	}
	if len(f.failed) != 0 {
		t.Errorf("%d without an answer, first: %v", len(f.failed), f.failed[0])
	}
	for reason := range f.reasons {
		if reason != "credential_key_unknown" && reason != "keys_unavailable" {
			t.Errorf("forged tokens came out as %q", reason)
		}
	}
}

// TestForgedTokensOverTheWire is the short form of TestSoakForgedTokens.
func TestForgedTokensOverTheWire(t *testing.T) {
	t.Parallel()
	// The honest requests are as many as the machine can make.
	w := newFixture(t, options{extra: "limits: {step: {requests_per_second: 100000}, repository: {requests_per_second: 100000}}\n"})
	w.start()
	w.forgeries(t, 200, 7*time.Second).check(t)
	if rows := w.query(t, `SELECT count(*) AS n FROM audit.events WHERE reason IN ('credential_key_unknown', 'keys_unavailable')`); rows[0]["n"].(float64) > 20*5*9 {
		t.Errorf("on record: %v", rows)
	}
}
