package policycmd

import (
	"os"
	"testing"

	"github.com/sallyport/sallyport/policy/rego"
)

func TestMain(m *testing.M) {
	rego.ServeWorker() // does not return in a policy worker
	os.Exit(m.Run())
}
