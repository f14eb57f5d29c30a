package e2e

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line as an operator does: testdata/script has the
// commands, their output and their exit status.
func TestScripts(t *testing.T) {
	t.Parallel()
	program := released(t)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(program)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("SALLYPORT_CONFIG", "")
			return nil
		},
	})
}
