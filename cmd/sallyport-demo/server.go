package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sallyport/sallyport/internal/testenv"
)

// server is the real `sallyport serve`, as a process of its own.
type server struct {
	proxy   string // host:port
	hooks   string // host:port of the webhook listener
	policy  *policyRepository
	admin   string
	config  string
	data    string
	logFile string

	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone
	err   error
}

const startTimeout = 2 * time.Minute

// startServer configures and starts the server, and returns when it is ready.
func startServer(ctx context.Context, program string, env *testenv.Env) (*server, error) {
	s := &server{data: filepath.Join(env.Directory, "data"), logFile: filepath.Join(env.Directory, "sallyport.log"), ended: make(chan struct{})}
	var err error
	if s.proxy, err = testenv.PreferAddress(3128); err != nil {
		return nil, err
	}
	if s.admin, err = testenv.PreferAddress(9128); err != nil {
		return nil, err
	}
	if s.hooks, err = testenv.PreferAddress(7128); err != nil {
		return nil, err
	}
	if s.policy, err = newPolicyRepository(env, s.hooks); err != nil {
		return nil, fmt.Errorf("make the policy repository: %w", err)
	}
	if s.config, err = env.WriteConfig(testenv.ServerOptions{
		Listen: s.proxy, Admin: s.admin, DataDirectory: s.data, PolicyGit: s.policy.source, Extra: s.policy.receiver,
	}); err != nil {
		return nil, err
	}
	log, err := os.Create(s.logFile)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s.cmd = exec.Command(program, "serve", "-c", s.config)
	s.cmd.Stdout, s.cmd.Stderr = log, log
	// An interrupt at the terminal goes to the whole process group; the server
	// is ended by us, when it is its turn.
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w; build it with `make build`", err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.ended)
	}()
	if err := s.waitReady(ctx); err != nil {
		s.stop()
		return nil, err
	}
	return s, nil
}

// waitReady polls /readyz until it returns 200.
func (s *server) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		if ready(ctx, s.admin) {
			return nil
		}
		select {
		case <-s.ended:
			return fmt.Errorf("the server ended: %w\n%s", s.err, lastLines(s.logFile))
		case <-ctx.Done():
			return fmt.Errorf("the server did not become ready: %w\n%s", context.Cause(ctx), lastLines(s.logFile))
		case <-again.C:
		}
	}
}

func ready(ctx context.Context, admin string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/readyz", nil)
	if err != nil {
		return false
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// stop ends the server as an operator would, and waits for it.
func (s *server) stop() {
	defer s.policy.endpoint.server.Close()
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-s.ended:
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		<-s.ended
	}
}

func lastLines(file string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	const maxTail = 4 << 10
	return string(bytes.TrimSpace(b[max(0, len(b)-maxTail):]))
}

// need returns what the tour needs and this machine lacks.
func need(programs ...string) error {
	var errs []error
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			errs = append(errs, fmt.Errorf("%s is not installed: `make needs` gets it, or your package manager", p))
		}
	}
	return errors.Join(errs...)
}
