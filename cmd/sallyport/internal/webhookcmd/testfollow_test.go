package webhookcmd

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// deliver ends the tasks of an endpoint in one way until the test ends.
func (s *queueSetup) deliver(endpoint string, end func(context.Context, webhook.Task) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range s.queue.Wake(ctx) {
			tasks, err := s.queue.Claim(ctx, endpoint, 10, time.Minute)
			for _, task := range tasks {
				if err == nil {
					err = end(ctx, task)
				}
			}
			if err != nil && ctx.Err() == nil {
				s.t.Error(err)
			}
		}
	}()
	s.t.Cleanup(func() { cancel(); <-done })
}

// newTestSetup is a receiver whose deliveries have these routes.
func newTestSetup(t *testing.T, decision webhook.Decision) *queueSetup {
	t.Helper()
	s := newQueueSetup(t)
	s.add()
	s.decider = decider(decision)
	s.write(s.config, s.read(s.config)+"\n  endpoints:\n    - {name: jenkins, url: \"https://jenkins.example/\"}\n    - {name: kargo, agent: true}\n")
	s.serve()
	return s
}

func toEndpoints(names ...string) webhook.Decision {
	d := webhook.Decision{Verdict: policy.Allow, Reason: "policy_allowed", Rule: "to-endpoints", Routes: []webhook.Route{{Action: webhook.RefreshPolicy}}}
	for _, name := range names {
		d.Routes = append(d.Routes, webhook.Route{Action: webhook.Forward, Endpoint: name})
	}
	return d
}

// TestFollow: each stage of a delivery is reported until its endpoints have it, as text and
// as JSON.
func TestFollow(t *testing.T) {
	t.Parallel()
	s := newTestSetup(t, toEndpoints("jenkins", "kargo"))
	for _, endpoint := range []string{"jenkins", "kargo"} {
		s.deliver(endpoint, func(ctx context.Context, task webhook.Task) error {
			return s.queue.Done(ctx, task, webhook.TaskResult{Status: 204, Duration: 12 * time.Millisecond})
		})
	}
	out, _, err := s.command("test", "policy", "--branch", "main", "--wait", "1m")
	for _, want := range []string{"ok      name: 127.0.0.1 is an address", "ok      TLS: none", "ok      signature: verified", "ok      decision: allow, policy_allowed, rule to-endpoints",
		"ok      commit: event ", "ok      refresh_policy: requested", "ok      forward jenkins: delivered with status 204 in 12 ms, attempt 1", "ok      forward kargo: delivered"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if err != nil || strings.Contains(out, "FAILED") {
		t.Errorf("%v:\n%s", err, out)
	}
	event, err := webhook.Parse(webhook.Cloud, "repo:push", []byte(pgtest.Value[string](t, s.db, `SELECT convert_from(body, 'UTF8') FROM webhook.deliveries`)))
	if err != nil || !webhook.AffectsBranch(event, "main") || event.Refs[0].Old != event.Refs[0].New {
		t.Errorf("%+v, %v", event, err)
	}
	id := pgtest.Value[string](t, s.db, `SELECT id::text FROM webhook.deliveries`)
	if !strings.Contains(out, "commit: event "+id) {
		t.Errorf("the event is not that of %s:\n%s", id, out)
	}
	out, _, err = s.command("test", "policy", "--wait", "1m", "--format", "json")
	var got testReport
	if err := json.Unmarshal([]byte(out), &got); err != nil || !got.OK || got.Receiver != "policy" || got.Delivery == "" || got.Delivery == id || len(got.Stages) != 11 {
		t.Errorf("%v: %s", err, out)
	}
	if err != nil {
		t.Error(err)
	}
}

// TestFollowNamesTheFailure: a delivery that is denied, that an endpoint does not accept, or
// that waits, is a failure with its remedy.
func TestFollowNamesTheFailure(t *testing.T) {
	t.Parallel()
	s := newTestSetup(t, toEndpoints("jenkins"))
	var n atomic.Int32
	s.deliver("jenkins", func(ctx context.Context, task webhook.Task) error {
		if n.Add(1) == 1 {
			return s.queue.Retry(ctx, task, time.Now().Add(time.Hour), "the endpoint responded with status 401")
		}
		return s.queue.Dead(ctx, task, "the endpoint responded with status 410")
	})
	expect := func(arguments []string, want ...string) {
		t.Helper()
		out, _, err := s.command(append([]string{"test", "policy"}, arguments...)...)
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("no %q in\n%s", text, out)
			}
		}
		if err == nil || err.Error() != "the report has the finding" {
			t.Errorf("the command ends with %v", err)
		}
	}
	expect([]string{"--wait", "1m"}, "FAILED  forward jenkins: attempt 1 failed: the endpoint responded with status 401: enter the webhook's secret")
	expire := `UPDATE webhook.tasks SET not_before = '-infinity' WHERE state = 'pending'`
	pgtest.Exec(t, s.db, expire)
	pgtest.Eventually(t, "the first delivery ends", func() bool {
		return pgtest.Value[int](t, s.db, `SELECT count(*) FROM webhook.tasks WHERE state = 'dead'`) == 1
	})
	expect([]string{"--wait", "1m", "--repository", "11112222-3333-4444-5555-000000000002"}, "FAILED  forward jenkins: a dead letter after 1 attempt: the endpoint responded with status 410",
		"sallyport webhook replay ")
	if n.Load() != 3 {
		t.Errorf("%d attempts", n.Load())
	}

	s.decider = decider(toEndpoints("kargo"))
	s.serve()
	expect([]string{"--wait", "100ms"}, "FAILED  forward kargo: waiting: no agent fetched the delivery within 100ms: start `sallyport webhook agent`")
	s.decider = decider{Reason: webhook.RepositoryNotAllowed}
	s.serve()
	expect(nil, "FAILED  decision: deny, webhook_repository_not_listed: name one of the receiver's repositories")
	s.decider = decider{Reason: "policy_denied", Rule: "no-forks", Message: "hostile\x1b[2J"}
	s.serve()
	expect(nil, `FAILED  decision: deny, policy_denied, rule no-forks (hostile\x1b[2J)`, "name one with --branch")
	s.decider = decider{Verdict: policy.Allow}
	s.serve()
	if out, _, err := s.command("test", "policy"); err != nil || !strings.Contains(out, "ok      routes: none") {
		t.Errorf("%v: %s", err, out)
	}
	for flag, value := range map[string]string{"--wait": "2h", "--url": "hooks.acme.example", "--ca-file": s.config} {
		if _, _, err := s.command("test", "policy", flag, value); err == nil || !strings.Contains(fmt.Sprint(err), flag) {
			t.Errorf("%s %s: %v", flag, value, err)
		}
	}
}

// TestFailureRemedy: the remedy names the key or the secret that causes the failure.
func TestFailureRemedy(t *testing.T) {
	t.Parallel()
	for cause, want := range map[string]string{
		"the endpoint responded with status 403": "enter the webhook's secret",
		"send: address is not one that was pinned, or must not be dialed: 127.0.0.1 has only the addresses [loopback 127.0.0.1]": "allow_networks",
		"send: dial tcp 192.0.2.1:443: connect: connection refused":                                                              "correct the endpoint",
	} {
		if got := failureRemedy(cause); !strings.Contains(got, want) {
			t.Errorf("%s: %s", cause, got)
		}
	}
}
