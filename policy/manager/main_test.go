package manager

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/policy/rego"
)

func TestMain(m *testing.M) {
	rego.ServeWorker()
	os.Exit(m.Run())
}
