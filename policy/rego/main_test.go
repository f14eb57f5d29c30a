package rego

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	ServeWorker()
	limits.inspect, limits.compile, limits.quiet = 3*time.Second, time.Second, 600*time.Millisecond
	os.Exit(m.Run())
}
