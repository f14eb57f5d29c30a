package e2e

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestDebug: an operator gets profiles of a running server over its control socket, and each
// is recorded. The network gets none.
func TestDebug(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{tls: true})
	w.start()
	c := w.tunnel(t, w.anybody(), "raw.partner.example:"+echo(t).port)
	defer c.conn.Close()
	for _, kind := range []string{"profile", "trace", "heap", "goroutines"} {
		path := filepath.Join(t.TempDir(), kind)
		args := []string{"debug", kind, "--out", path}
		if kind == "profile" || kind == "trace" {
			args = append(args, "--duration", "50ms")
		}
		w.operatorCommand(t, 0, args...)
		info, err := os.Stat(path)
		if err != nil || info.Size() == 0 || info.Mode().Perm() != 0o600 {
			t.Errorf("the file of debug %s: %v %v", kind, info, err)
		}
		if kind == "goroutines" {
			if text, err := os.ReadFile(path); err != nil || !strings.Contains(string(text), "proxy.(*tunnel)") {
				t.Errorf("the stacks have no open tunnel: %v\n%.2000s", err, text)
			}
		}
		if output := w.operatorCommand(t, 2, args...); !strings.Contains(output, "exists") {
			t.Errorf("a file that exists: %q", output)
		}
	}
	if output := w.operatorCommand(t, 0, "debug", "goroutines"); !strings.HasPrefix(output, "goroutine profile:") {
		t.Errorf("standard output is %.100q", output)
	}
	if output := w.operatorCommand(t, 2, "debug", "profile", "--duration", "2h"); !strings.Contains(output, "1m0s") {
		t.Errorf("a duration over the bound: %q", output)
	}
	names, rows := w.operatorActions(t)
	if want := slices.Repeat([]string{"debug"}, 5); !slices.Equal(names, want) {
		t.Errorf("on record: %v", names)
	}
	for i, kind := range []string{"profile", "trace", "heap", "goroutines", "goroutines"} {
		if i < len(rows) && !strings.Contains(show(rows[i]["record"]), kind) {
			t.Errorf("event %d does not name %s: %v", i, kind, rows[i])
		}
	}
	w.noProfiles(t)
}

// noProfiles asks every listener for the profiles of net/http/pprof and for the variables
// of expvar.
func (w *fixture) noProfiles(t *testing.T) {
	t.Helper()
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/profile?seconds=1", "/debug/pprof/goroutine?debug=2", "/debug/vars", "/v1/debug"} {
		if status, body := w.get(path); status != 404 && status != 405 {
			t.Errorf("the admin listener answers %s with %d: %.200s", path, status, body)
		}
		conn, err := net.Dial("tcp", w.proxy)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: " + w.proxy + "\r\nConnection: close\r\n\r\n"))
		answer := make([]byte, 4096)
		n, _ := conn.Read(answer)
		_ = conn.Close()
		if text := string(answer[:n]); n == 0 || strings.HasPrefix(text, "HTTP/1.1 200") || strings.Contains(text, "goroutine") {
			t.Errorf("the proxy's listener answers %s with %q", path, text)
		}
	}
}
