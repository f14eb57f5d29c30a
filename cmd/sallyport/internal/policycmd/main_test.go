package policycmd

import (
	"testing"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy/rego"
)

func TestMain(m *testing.M) {
	rego.ServeWorker() // does not return in a policy worker
	pgtest.Main(m)
}
