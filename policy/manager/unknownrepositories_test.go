package manager

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// TestUnknownRepositoriesAreReportedOncePerRevision: the list of the workspaces'
// repositories is requested again after an hour, and soon after it failed.
func TestUnknownRepositoriesAreReportedOncePerRevision(t *testing.T) {
	active := setNaming(t, "acme/paymnets")
	var log bytes.Buffer
	lists, failure := 0, errors.New("no response")
	c := repositoryCheck{
		active: func() *rego.Set { return active },
		list: func(context.Context) ([]string, error) {
			lists++
			return []string{"acme/payments"}, failure
		},
		log: slog.New(slog.NewTextHandler(&log, nil)),
	}
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	after := func(d time.Duration) (logged string) {
		now = now.Add(d)
		log.Reset()
		c.run(t.Context(), now)
		return log.String()
	}
	if got := after(0); !strings.Contains(got, "no response") || lists != 1 {
		t.Errorf("a list that fails: %d lists, logged %q", lists, got)
	}
	failure = nil
	if got := after(repositoriesInterval); got != "" || lists != 1 {
		t.Errorf("before the retry: %d lists, logged %q", lists, got)
	}
	if got := after(repositoriesRetry); !strings.Contains(got, "acme/paymnets") || !strings.Contains(got, active.Revision().Digest) || lists != 2 {
		t.Errorf("%d lists, logged %q", lists, got)
	}
	if got := after(repositoriesInterval); got != "" {
		t.Errorf("the same revision again: %q", got)
	}
	active = setNaming(t, "acme/toools")
	if got := after(repositoriesInterval); !strings.Contains(got, "acme/toools") || lists != 2 {
		t.Errorf("another revision: %d lists, logged %q", lists, got)
	}
	active = setNaming(t, "acme/payments")
	if got := after(2 * repositoriesMaxAge); got != "" || lists != 3 {
		t.Errorf("a known repository after %v: %d lists, logged %q", 2*repositoriesMaxAge, lists, got)
	}
	active = nil
	if got := after(repositoriesInterval); got != "" {
		t.Errorf("without an active revision: %q", got)
	}
}

// setNaming returns a policy with a rule for a repository.
func setNaming(t *testing.T, repository string) *rego.Set {
	t.Helper()
	snapshot, err := policy.NewSnapshot([]policy.File{{Path: "egress/a.rego", Content: []byte(`package sallyport.egress

allow contains {"rule": "a"} if input.principal.repository.full_name == "` + repository + `"
`)}}, "")
	if err != nil {
		t.Fatal(err)
	}
	set, err := rego.Load(t.Context(), snapshot, rego.Options{Names: true})
	if err != nil {
		t.Fatal(err)
	}
	return set
}
