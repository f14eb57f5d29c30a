package rego

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	ServeWorker()
	limits.inspect, limits.compile, limits.quiet = 3*timeFactor*time.Second, timeFactor*time.Second, timeFactor*600*time.Millisecond
	code := m.Run()
	if plainTests.directory != "" {
		_ = os.RemoveAll(plainTests.directory)
	}
	os.Exit(code)
}
