package policycmd

import (
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/internal/selftest"
)

// What learns from the log leaves out the probes, and who tried to get to their names.
func TestProbesAreNoHistory(t *testing.T) {
	h := &history{database: new(auditreader.History)}
	for _, c := range []struct {
		kind, host string
		counts     bool
	}{{"oidc", "partner.example", true}, {selftest.Kind, "x.example", false}, {"oidc", selftest.EchoHost, false}} {
		e := &audit.Event{Time: time.Now(), Kind: audit.KindDecision, CredentialKind: c.kind, Host: c.host, Writer: "w", WriterSequence: 1, Input: []byte(`{}`)}
		e.Normalise()
		if _, ok, err := h.decided(e.AppendRecord(nil)); err != nil || ok != c.counts {
			t.Errorf("%s to %s: %v, %v", c.kind, c.host, ok, err)
		}
	}
}
