package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// builds are the programs that the tests run, each built once.
var builds = &programs{}

type programs struct {
	mu        sync.Mutex
	directory string
	made      map[string]error
	lent      bool // by another process, which removes them
}

// use uses the programs that another process has built.
func (p *programs) use(directory string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.directory, p.lent = directory, true
	p.made = map[string]error{"sallyport": nil, "released": nil, "mutant": nil}
}

// sallyport is the program with the race detector, if the tests have it: for servers.
func sallyport(t testing.TB) string {
	t.Helper()
	return builds.get(t, "sallyport", nil)
}

// released is the program as users have it: for commands that end, and for tests of the
// program's memory and times. The race detector makes each start take three times as long.
func released(t testing.TB) string {
	t.Helper()
	if !raceDetector {
		return sallyport(t)
	}
	return builds.get(t, "released", nil)
}

// get builds a program, with the given files in the place of the real ones. Only the
// program sallyport has the race detector.
func (p *programs) get(t testing.TB, name string, overlay func() (map[string]string, error)) string {
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
	path := filepath.Join(p.directory, name, "sallyport")
	err, done := p.made[name]
	if !done {
		err = build(path, raceDetector && name == "sallyport", overlay)
		p.made[name] = err
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func build(path string, race bool, overlay func() (map[string]string, error)) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	args := []string{"build", "-buildvcs=false", "-ldflags", "-s -w -X main.version=e2e", "-o", path}
	if race {
		args = append(args, "-race")
	}
	if overlay != nil {
		replace, err := overlay()
		if err != nil {
			return err
		}
		file, err := writeOverlay(filepath.Dir(path), replace)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", file)
	}
	cmd := exec.Command("go", append(args, "../cmd/sallyport")...)
	if !race {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0") // as the program is built for users
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// writeOverlay writes the contents and the file that go build -overlay takes.
func writeOverlay(directory string, contents map[string]string) (string, error) {
	replace := make(map[string]string, len(contents))
	for original, content := range contents {
		absolute, err := filepath.Abs(original)
		if err != nil {
			return "", err
		}
		to := filepath.Join(directory, fmt.Sprintf("overlay%d.go", len(replace)))
		if err := os.WriteFile(to, []byte(content), 0o644); err != nil {
			return "", err
		}
		replace[absolute] = to
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	file := filepath.Join(directory, "overlay.json")
	return file, os.WriteFile(file, list, 0o644)
}

func (p *programs) remove() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.directory == "" || p.lent {
		return nil
	}
	return os.RemoveAll(p.directory)
}

// command runs the program to its end and returns its exit status and output.
func command(t testing.TB, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return execute(t, exec.CommandContext(t.Context(), released(t), args...))
}

// execute runs a program to its end. A status other than 0 is not a failure here.
func execute(t testing.TB, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if _, exited := err.(*exec.ExitError); err != nil && !exited {
		t.Fatalf("%s: %v\n%s", cmd, err, errOut.String())
	}
	return cmd.ProcessState.ExitCode(), out.String(), errOut.String()
}
