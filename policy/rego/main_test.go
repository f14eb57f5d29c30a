package rego

import (
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	ServeWorker()
	limits.inspect, limits.compile, limits.quiet = 3*raceFactor*time.Second, raceFactor*time.Second, raceFactor*600*time.Millisecond
	os.Exit(m.Run())
}
