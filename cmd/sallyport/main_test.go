package main

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/policy/rego"
)

// TestMain lets the test binary serve as a policy worker, as the program does.
func TestMain(m *testing.M) {
	rego.ServeWorker() // does not return in a policy worker
	os.Exit(m.Run())
}
