package e2e

import (
	"debug/buildinfo"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// startProxy starts a program that stays in the foreground, waits until it listens, and
// ends it at the end of the test.
func startProxy(t *testing.T, address string, env []string, program string, args ...string) (pid int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // ended by a signal
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	eventually(t, program+" listens", func() bool {
		select {
		case <-ended:
			t.Fatalf("%s ended with %v", cmd, cmd.ProcessState)
		default:
		}
		conn, err := net.Dial("tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
	return cmd.Process.Pid
}

// moduleVersion is the version of a module that a program is built with; "" if unknown.
func moduleVersion(program, path string) string {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return ""
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

// tool builds another program than sallyport, once, and returns its path.
func (p *programs) tool(t testing.TB, name, source string) string {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.directory == "" {
		directory, err := os.MkdirTemp("", "sallyport-e2e-")
		if err != nil {
			t.Fatal(err)
		}
		p.directory, p.made = directory, make(map[string]error)
	}
	path := filepath.Join(p.directory, name, name)
	err, done := p.made[name]
	if !done {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-buildvcs=false", "-o", path, source)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
		p.made[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}
