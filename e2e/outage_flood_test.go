package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
)

// peakMemory is the most memory that the server has held, in bytes.
func (w *fixture) peakMemory(t testing.TB) int64 {
	t.Helper()
	peak := highWaterMark(fmt.Sprint(w.cmd.Process.Pid))
	if peak == 0 {
		t.Fatal("the server's memory cannot be read")
	}
	return peak
}

// highWaterMark is the most memory that a process has held (VmHWM in proc(5)), in
// bytes; 0 if the process has ended.
func highWaterMark(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	text, _, _ := strings.Cut(strings.TrimSpace(rest), " kB")
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil {
		return 0
	}
	return n << 10
}

// TestFloodDuringAnOutage: with the database unavailable one step sends refused
// requests, with paths as long as a head may be and to a new target each time, and
// allowed ones, as fast as it can. The server's memory stays bounded, and another
// repository gets the same answers as without the flood. Without a bound in bytes on the
// queue the server held 2.2 GB.
func TestFloodDuringAnOutage(t *testing.T) {
	t.Parallel()
	for _, onOutage := range []string{"deny", "spool"} {
		t.Run(onOutage, func(t *testing.T) {
			db, postgres := newServerDatabase(t)
			w := newFixture(t, options{database: db, audit: "  on_outage: " + onOutage + "\n", extra: "limits: {step: {requests_per_second: 100000}, repository: {requests_per_second: 100000}}\n"})
			w.start()
			w.floodOutage(t, postgres, onOutage)
		})
	}
}

func (w *fixture) floodOutage(t *testing.T, postgres *pgtest.Server, onOutage string) {
	target := echo(t)
	to := "raw.partner.example:" + target.port
	flooder, other := w.anybody(), w.caller(w.Tools, nil, "main")
	w.expect(t, flooder, to, 200, "")
	w.expect(t, other, to, 200, "")
	postgres.Kill(t)
	w.request(t, other, to)
	w.log.wait(t, "of the outage", message("audit database unavailable", nil))
	eventually(t, "the outage is known", func() bool { return w.counter(t, "sallyport_audit_unavailable_since_timestamp_seconds") > 0 })

	stop, long := make(chan struct{}), strings.Repeat("/x", 30<<10)
	var flood sync.WaitGroup
	for worker := range 12 {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				head := connectTo(to, flooder.basic())
				if n%4 > 0 {
					host := fmt.Sprintf("h%d-%d.example", worker, n)
					head = "GET http://" + host + long + " HTTP/1.1\r\nHost: " + host + "\r\nProxy-Authorization: " + flooder.basic() + "\r\n\r\n"
				}
				_, _, _ = attempt("127.0.0.1", w.proxy, head)
			}
		})
	}
	want, reason := 503, "audit_unavailable"
	if onOutage == "spool" {
		want, reason = 200, ""
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end); {
		w.expect(t, other, to, want, reason)
	}
	close(stop)
	flood.Wait()
	peak := w.peakMemory(t)
	t.Logf("%s: %d MB at most, %v events waited, the journal has %v bytes, %v repeats", onOutage, peak>>20, w.counter(t, "sallyport_audit_queued_events"),
		w.counter(t, "sallyport_journal_bytes"), w.counter(t, "sallyport_audit_repeated_refusals_total"))
	if peak > 600<<20 {
		t.Errorf("the server held %d MB", peak>>20)
	}
	postgres.Restart(t)
	w.ready()
	if broken := w.query(t, `SELECT * FROM audit.writers WHERE missing <> 0`); len(broken) != 0 {
		t.Errorf("numbers are missing: %v", broken)
	}
	if longest := w.query(t, `SELECT max(pg_column_size(e)) AS n FROM audit.events e WHERE kind = 'decision'`)[0]["n"].(float64); longest > 16<<10 {
		t.Errorf("a row has %v bytes", longest)
	}
}
