package e2e

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bench"
)

var benchProfile = flag.String("bench-profile", "", "TestBenchProfile writes a CPU profile of the server to this file")

// TestBenchProfile profiles the server with new tunnels and with requests of plain HTTP, half
// of the time each (`make bench-profile`).
func TestBenchProfile(t *testing.T) {
	if *benchProfile == "" {
		t.Skip("-bench-profile names no file: `make bench-profile` does")
	}
	upstream, err := bench.StartUpstream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	database, postgres := newServerDatabase(t)
	w := benchServer(t, released(t), database, "")
	o := bench.Options{Upstream: upstream, Targets: []*bench.Target{benchTargetOf(t, sallyportName, w, postgres, w.Payments)}, Rounds: 1, Time: 2 * time.Second}
	for _, l := range bench.Loads() {
		if l.Name == "connect" || l.Name == "get" {
			o.Loads = append(o.Loads, l)
		}
	}
	path := filepath.Join(t.TempDir(), "cpu.pprof")
	ended := make(chan string, 1)
	const duration = "30s"
	go func() {
		defer close(ended)
		code, out, errOut := command(t, "debug", "profile", "-c", w.config, "--duration", duration, "--out", path)
		if code != 0 {
			t.Errorf("debug profile ended with %d: %s%s", code, out, errOut)
		}
		ended <- errOut
	}()
	for profiling := true; profiling; {
		for _, c := range bench.Run(o).Cells {
			if c.Failure != "" {
				t.Errorf("%s: %s", c.Load, c.Failure)
			}
		}
		select {
		case output := <-ended: // empty after a failure to start the command
			t.Log(strings.TrimSpace(output))
			profiling = false
		default:
		}
	}
	content, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(*benchProfile, content, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}
