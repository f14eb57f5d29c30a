package docs_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// builtProgram is the program of these tests, built once and removed by TestMain.
var builtProgram struct {
	once            sync.Once
	directory, path string
	err             error
}

// program returns the path of a file sallyport, alone in its folder, as it is built for
// users, with the version 1.0.0.
func program(t *testing.T) string {
	t.Helper()
	b := &builtProgram
	b.once.Do(func() {
		if b.directory, b.err = os.MkdirTemp("", "sallyport-docs-"); b.err != nil {
			return
		}
		b.path = filepath.Join(b.directory, "sallyport")
		cmd := exec.Command("go", "build", "-buildvcs=false", "-ldflags", "-s -w -X main.version=1.0.0", "-o", b.path, "../cmd/sallyport")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("%s: %w\n%s", cmd, err, out)
		}
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}
