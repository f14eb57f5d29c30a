package rego

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	ServeWorker()
	os.Exit(m.Run())
}
