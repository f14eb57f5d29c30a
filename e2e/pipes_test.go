package e2e

import (
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
)

// TestBrokenPipes: a server whose standard error or output is closed, or not
// read, decides and records as before, counts the lines that are lost, and ends
// when it is requested.
func TestBrokenPipes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		stdout  bool           // standard output breaks, and not standard error
		breaks  func(*os.File) // the effect on the reading end
		dropped bool
	}{
		{"reader of standard error ends", false, func(r *os.File) { _ = r.Close() }, false},
		{"reader of standard error stops", false, func(*os.File) {}, true},
		{"reader of standard output ends", true, func(r *os.File) { _ = r.Close() }, false},
		{"standard error is closed", false, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			extra := ""
			if c.stdout {
				extra = "  reconciliation: {enabled: false}\n  checkpoints: {stdout: true}\n"
			}
			w := newFixture(t, options{extra: "log: {level: debug}\n", audit: extra})
			r, end, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			const fcntlSetPipeSize = 1031 // F_SETPIPE_SZ, fcntl(2)
			if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, end.Fd(), fcntlSetPipeSize, 4096); errno != 0 {
				t.Fatal(errno)
			}
			switch {
			case c.breaks == nil:
				w.server = launchTo(t, w.program, w.config, w.admin, nil, closed(t))
			case c.stdout:
				w.server = launchTo(t, w.program, w.config, w.admin, end, nil)
			default:
				w.server = launchTo(t, w.program, w.config, w.admin, nil, end)
			}
			_ = end.Close()
			w.ready()
			if c.breaks != nil {
				first := make([]byte, 600)
				if !c.stdout {
					if _, err := io.ReadFull(r, first); err != nil || !strings.Contains(string(first), "starting") {
						t.Fatalf("%q, %v", first, err)
					}
				}
				c.breaks(r)
			}
			for range 30 {
				step := w.anybody()
				id := w.connect(t, step, strings.Repeat("long.", 30)+"unlisted.example:443").refused(t, 403, "no_rule_matched")
				w.decisionWith(t, id)
			}
			if c.stdout {
				eventually(t, "the failure shows", func() bool {
					_, answer := w.readyz()
					return strings.Contains(show(answer["detail"]), "broken pipe")
				})
			}
			if got := w.counter(t, "sallyport_log_lines_dropped_total"); !c.dropped && got != 0 {
				t.Errorf("%v lines are counted as dropped", got)
			}
			w.signal(syscall.SIGTERM)
			w.await(0)
		})
	}
}

// TestBrokenPipeSurvivalIsNeeded: without it, the end of the reader of standard
// error ends the server by SIGPIPE.
func TestBrokenPipeSurvivalIsNeeded(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{program: mutant(t), extra: "log: {level: debug}\n"})
	r, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	w.server = launchTo(t, w.program, w.config, w.admin, nil, end, "SALLYPORT_WITHOUT=pipes")
	_ = end.Close()
	w.ready()
	_ = r.Close()
	w.signal(syscall.SIGHUP) // it has something to log
	w.await(-1)
	if status, ok := w.cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v", w.cmd.ProcessState)
	}
}

// closed is a file whose every write fails.
func closed(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Open(os.DevNull) // for reading
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}
