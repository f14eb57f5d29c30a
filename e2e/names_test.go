package e2e

import (
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestNamesUnavailable: where a repository's name has never been known and the
// REST API does not return it, nothing is decided. A known one serves on.
func TestNamesUnavailable(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{identity: "  name_lookup_timeout: 300ms\n"})
	w.start()
	target := echo(t)
	known := w.anybody()
	w.tunnel(t, known, "raw.partner.example:"+target.port).echoes(t, "hello")
	<-target.arrivals

	fresh := w.Workspace.AddRepository("fresh", "PAY")
	for name, fault := range map[string]bitbuckettest.Fault{
		"failing": bitbuckettest.Failing(500), "hanging": bitbuckettest.Hanging(), "rate limited": bitbuckettest.RateLimited(0),
	} {
		injected := w.Bitbucket.Inject(bitbuckettest.REST, fault)
		c := w.caller(fresh, nil, "main")
		id := w.connect(t, c, "raw.partner.example:"+target.port).refused(t, 503, "names_unavailable")
		row := w.decision(t, c)
		w.both(t, row, fields{
			"decision_id": id, "verdict": "deny", "reason": "names_unavailable", "status": 503,
			"repository_uuid": fresh.UUID, "workspace_uuid": w.Workspace.UUID,
		})
		if row["repository"] != nil {
			t.Errorf("%s: the name on record is %v", name, row["repository"])
		}
		target.untouched(t)
		again := w.anybody()
		w.tunnel(t, again, "raw.partner.example:"+target.port).echoes(t, "known names serve on")
		<-target.arrivals
		injected.Clear()
	}

	// When the API is back, so is the way out.
	eventually(t, "the name is known", func() bool {
		c := w.caller(fresh, nil, "main")
		a := w.connect(t, c, "raw.partner.example:"+target.port)
		if a.StatusCode != 200 {
			return false
		}
		a.echoes(t, "known at last")
		a.conn.Close()
		w.both(t, w.decision(t, c), fields{"verdict": "allow", "repository": "acme/fresh", "repository_uuid": fresh.UUID})
		return true
	})
}

// TestKeysUnavailable: an issuer that becomes unavailable does not invalidate its known keys
// along; what is signed with others can not be judged.
func TestKeysUnavailable(t *testing.T) {
	t.Parallel()
	w := newFixture(t, options{})
	w.start()
	target := echo(t)
	before := w.anybody()
	w.tunnel(t, before, "raw.partner.example:"+target.port).echoes(t, "hello")
	known := w.anybody()
	injected := w.Bitbucket.Inject(bitbuckettest.OIDC, bitbuckettest.Failing(503))
	defer injected.Clear()
	w.tunnel(t, known, "raw.partner.example:"+target.port).echoes(t, "known keys serve on")
	w.Workspace.RotateKey(true)
	rotated := w.anybody()
	// Right after a fetch that went well another is not made, so that forged
	// tokens cannot cause one each: until then the key is one that is not known.
	// Nor is more recorded in a second than so much of one address.
	var a *rawResponse
	eventually(t, "the keys are asked for again", func() bool {
		a = w.connect(t, rotated, "raw.partner.example:"+target.port)
		return a.Header.Get("Sallyport-Reason") == "keys_unavailable" && a.Header.Get("Sallyport-Decision") != ""
	})
	id := a.refused(t, 503, "keys_unavailable")
	if rows := w.decisions(t, rotated.step.UUID); len(rows) != 0 {
		t.Errorf("the step is on record without having been verified: %v", rows)
	}
	w.both(t, w.decisionWith(t, id), fields{"verdict": "deny", "reason": "keys_unavailable", "status": 503, "step_uuid": nil})
}
