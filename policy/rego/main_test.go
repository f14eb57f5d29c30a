package rego

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	ServeWorker()
	limits.inspect, limits.compile, limits.quiet = 2*time.Second, 2*time.Second, time.Second
	os.Exit(m.Run())
}
