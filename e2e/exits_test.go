package e2e

import (
	"strings"
	"syscall"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestSignalsDuringStart: a signal that ends a starting server ends it with a message,
// and SIGHUP does not end it.
func TestSignalsDuringStart(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"SIGTERM": syscall.SIGTERM, "SIGINT": syscall.SIGINT, "SIGHUP": syscall.SIGHUP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newFixture(t, options{})
			w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Hanging())
			w.server = launch(t, w.program, w.config, w.admin, w.env...)
			w.log.wait(t, "of the start", message("starting", nil))
			w.signal(signal)
			if signal == syscall.SIGHUP {
				w.Bitbucket.ClearFaults()
				w.ready()
				w.stop()
				return
			}
			w.await(1)
			if text := outputOutsideLog(w.server); !strings.HasPrefix(text, "sallyport: ") || !strings.Contains(text, "interrupted") {
				t.Errorf("the last message is %q", text)
			}
		})
	}
}
