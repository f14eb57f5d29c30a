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
// long with the detector. Other tests use the same code with the detector.
func withoutRaceDetector(t *testing.T) bool {
	t.Helper()
	if raceFactor == 1 {
		return false
	}
	runPlain(t)
	return true
}

// aloneVariable names the test that a process of [inOwnProcess] runs.
const aloneVariable = "SALLYPORT_TEST_ALONE"

// inOwnProcess runs the test in a process of its own without the race detector, and reports
// whether it did. It is for tests that measure memory or time: what other tests of a process
// have left counts too.
func inOwnProcess(t *testing.T) bool {
	t.Helper()
	if os.Getenv(aloneVariable) == t.Name() {
		return false
	}
	runPlain(t, aloneVariable+"="+t.Name())
	return true
}

// runPlain runs the test by [plainProgram].
func runPlain(t *testing.T, env ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), plainProgram(t), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m",
		"-test.parallel="+flag.Lookup("test.parallel").Value.String())
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()+" ") {
		t.Fatalf("%s: %v\n%s", cmd, err, out)
	}
}
