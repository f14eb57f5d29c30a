package rego

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// plainTests is this package's test binary without the race detector. It is built when a
// test first needs it, and removed by TestMain.
var plainTests struct {
	once            sync.Once
	directory, path string
	err             error
}

func buildPlainTests() {
	if plainTests.directory, plainTests.err = os.MkdirTemp("", "sallyport-rego-"); plainTests.err != nil {
		return
	}
	plainTests.path = filepath.Join(plainTests.directory, "rego.test")
	cmd := exec.Command("go", "test", "-c", "-o", plainTests.path, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		plainTests.err = fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
}

// plainProgram returns this package's test binary without the race detector. A build with
// the detector ends with another message when its stack or its memory is exhausted.
func plainProgram(t *testing.T) string {
	t.Helper()
	if raceFactor == 1 {
		return os.Args[0]
	}
	if plainTests.once.Do(buildPlainTests); plainTests.err != nil {
		t.Fatal(plainTests.err)
	}
	return plainTests.path
}

// withoutRaceDetector runs the test in a build without the race detector if this build has
// it, and reports whether it did. It is for tests whose thousands of rows take ten times as
// long with the detector, and for tests of time and memory. Other tests use the same code
// with the detector.
func withoutRaceDetector(t *testing.T) bool {
	t.Helper()
	if raceFactor == 1 {
		return false
	}
	cmd := exec.CommandContext(t.Context(), plainProgram(t), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m",
		"-test.parallel="+flag.Lookup("test.parallel").Value.String())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
	return true
}
