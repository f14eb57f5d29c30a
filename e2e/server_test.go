package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// server is one process of `sallyport serve`.
type server struct {
	t     testing.TB
	admin string
	log   *logbook
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
}

// launch starts a process and does not wait for it to be ready. It is ended at
// the end of the test at the latest. env is put over the test's environment.
func launch(t testing.TB, program, config, admin string, env ...string) *server {
	t.Helper()
	return launchTo(t, program, config, admin, nil, nil, env...)
}

// launchTo is launch, with files for standard output and error; nil: the log's.
func launchTo(t testing.TB, program, config, admin string, stdout, stderr *os.File, env ...string) *server {
	t.Helper()
	s := &server{t: t, admin: admin, log: newLogbook(), ended: make(chan struct{})}
	s.cmd = exec.Command(program, "serve", "-c", config)
	// A proxy that used another one from its own environment would bypass every control.
	// Nothing listens there.
	s.cmd.Env = append(os.Environ(), "HTTPS_PROXY=http://127.0.0.1:9", "HTTP_PROXY=http://127.0.0.1:9",
		"https_proxy=http://127.0.0.1:9", "http_proxy=http://127.0.0.1:9", "NO_PROXY=", "no_proxy=")
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if stdout != nil {
		s.cmd.Stdout = stdout
	}
	if stderr != nil {
		s.cmd.Stderr = stderr
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // our interrupt is not its
	s.cmd.WaitDelay = 10 * time.Second
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	t.Cleanup(func() {
		if s.running() {
			s.signal(syscall.SIGTERM)
			s.await(-1)
		}
		if strings.Contains(s.log.text(), "DATA RACE") {
			t.Error("the server has a data race")
		}
		if strings.Contains(s.log.text(), "connection closed by a panic") {
			t.Error("the server has panicked")
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", tail(s.log.text()))
		}
	})
	return s
}

func tail(text string) string {
	const most = 24 << 10
	return text[max(0, len(text)-most):]
}

func (s *server) running() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Errorf("send %v: %v", sig, err)
	}
}

// await waits for the end, and expects this status; -1 accepts any.
func (s *server) await(status int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(patience):
		s.signal(syscall.SIGABRT) // with the stacks in the log
		<-s.ended
		s.t.Error("the server did not end")
	}
	if code := s.cmd.ProcessState.ExitCode(); status >= 0 && code != status {
		s.t.Errorf("the server ended with %d (%v), not %d", code, s.err, status)
	}
}

// ready waits until /readyz answers 200.
func (s *server) ready() {
	s.t.Helper()
	eventually(s.t, "the server is ready", func() bool {
		if !s.running() {
			s.t.Fatalf("the server ended: %v", s.err)
		}
		status, _ := s.readyz()
		return status == http.StatusOK
	})
}

// readyz returns the status and the body of /readyz; 0 while nothing answers.
func (s *server) readyz() (int, fields) {
	status, body := s.get("/readyz")
	var answer fields
	_ = json.Unmarshal([]byte(body), &answer) // empty while nothing answers
	return status, answer
}

func (s *server) get(path string) (int, string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.admin+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(r)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(body)
}
