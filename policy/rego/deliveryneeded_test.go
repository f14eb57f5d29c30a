package rego

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// asDeliveryBomb is a bomb as a rule about deliveries to the receiver bombs.
func asDeliveryBomb(t *testing.T, name string) string {
	t.Helper()
	for _, b := range evaluationBombs {
		if b.name == name {
			rules := strings.NewReplacer("allow contains", "deny contains", `input.target.host == "bomb.example"`, `input.receiver == "bombs"`,
				"input.target.port", "count(input.refs)").Replace(b.rego)
			return "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\n" + rules
		}
	}
	t.Fatalf("there is no bomb %s", name)
	return ""
}

const allowAllDeliveries = "-- webhook/a.rego --\npackage sallyport.webhook\n\nallow contains {\"rule\": \"all\"} if input.kind == \"cloud\"\n"

// TestDeliveryBombs: rules of a repository that exhaust their process deny that
// repository's deliveries, and nothing else.
func TestDeliveryBombs(t *testing.T) {
	t.Parallel()
	pool := bombPool(t)
	for _, name := range []string{"nested loops", "arrays that array.concat made", "json.marshal of a shared array"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := Load(t.Context(), snapshot(t, allowAllDeliveries+asDeliveryBomb(t, name)), Options{Names: true, Workers: pool, Deadline: 500 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			d, err := set.DecideDelivery(t.Context(), deliveryOf(t, "repository=acme/tools", "receiver=bombs"))
			if got := describedDelivery(d, err); got != "deny policy_error error" || !strings.Contains(err.Error(), "acme/tools") {
				t.Errorf("got %s, %v", got, err)
			}
			wantDelivery(t, set, "allow policy_allowed rule=all", "repository=acme/other", "receiver=bombs")
		})
	}
}

// noWorkers is a pool without workers.
type noWorkers struct{ Workers }

func (w noWorkers) Do(ctx context.Context, call *worker.Call) ([]byte, error) {
	if len(call.Request) > 0 && (call.Request[0] == requestEvaluate || call.Request[0] == requestCompile) {
		return nil, errors.New("no worker is free")
	}
	return w.Workers.Do(ctx, call)
}

// TestDeliveryWithoutWorkers: a repository's rules are evaluated in workers only, and a
// delivery that they cannot decide is denied.
func TestDeliveryWithoutWorkers(t *testing.T) {
	t.Parallel()
	set := mustLoadTree(t, snapshot(t, hooks+ownHooks), Options{Names: true, Workers: noWorkers{defaultWorkers()}, Deadline: 5 * time.Second})
	wantDelivery(t, set, "deny policy_error error", "repository=acme/tools")
	// What the organization denies does not depend on them.
	wantDelivery(t, set, "deny no_rule_matched", "repository=acme/tools", "event=repo:fork")
	wantDelivery(t, set, "allow policy_allowed rule=pushes", "repository=acme/other")
}

// TestDeliveryDeadline: a decision about a delivery ends within its deadline.
func TestDeliveryDeadline(t *testing.T) {
	t.Parallel()
	const endless = "some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); some c in numbers.range(1, 1000); a + b + c == count(input.refs) + 100000"
	files := allowAllDeliveries + "\ndeny contains {\"rule\": \"x\"} if { input.receiver != \"warm-up\"; " + endless + " }\n"
	for _, deadline := range []time.Duration{50 * time.Millisecond, 300 * time.Millisecond} {
		set, err := Load(t.Context(), snapshot(t, files), Options{Names: true, Deadline: deadline})
		if err != nil {
			t.Fatal(err)
		}
		d, err := set.DecideDelivery(t.Context(), deliveryOf(t))
		if got := describedDelivery(d, err); got != "deny policy_error error" || !strings.Contains(err.Error(), "took longer than "+deadline.String()) || d.Input == nil {
			t.Errorf("got %s, %v", got, err)
		}
	}
	// A canceled request denies too.
	set, err := Load(t.Context(), snapshot(t, files), Options{Names: true, Deadline: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if d, err := set.DecideDelivery(ctx, deliveryOf(t)); err == nil || d.Verdict != policy.Deny {
		t.Errorf("canceled: %s, %v", describedDelivery(d, err), err)
	}
}

// TestDeliveryProbe: a revision that cannot decide a recent delivery does not become
// active; of a repository, its rules are rejected.
func TestDeliveryProbe(t *testing.T) {
	t.Parallel()
	const erring = "deny contains {\"rule\": \"x\"} if {\n\tinput.receiver != \"warm-up\"\n\tto_number(input.receiver) > 1\n}\n"
	next := allowAllDeliveries + "\n" + erring
	own := allowAllDeliveries + "-- repositories/acme/tools/webhook/a.rego --\npackage sallyport.webhook_repository[\"acme/tools\"]\n\n" + erring

	engine := &Engine{}
	engine.Swap(mustLoad(t, hooks))
	if d, err := engine.DecideDelivery(t.Context(), deliveryOf(t, "repository=acme/tools")); err != nil || d.Verdict != policy.Allow {
		t.Fatal(describedDelivery(d, err), err)
	}
	err := engine.Prepare(t.Context(), mustLoad(t, next))
	if errs, ok := errors.AsType[Errors](err); !ok || !strings.Contains(errs.Error(), "it cannot decide a recent delivery (of acme/tools to the receiver builds)") || errs[0].File != "webhook/a.rego" {
		t.Errorf("the organization's: %v", err)
	}
	// On a loaded machine, Prepare may have no time left for a repository's rules.
	set := mustLoadWith(t, own, Options{OnFailure: DenyRepository})
	in, err := set.recentInput(engine.recent.list()[0].input)
	if err != nil || in.repository != "acme/tools" {
		t.Fatal(err, in)
	}
	err = set.prepareRepository(t.Context(), in.repository, []*evalInput{in}, time.Now().Add(time.Minute))
	if err == nil || !strings.Contains(err.Error(), "it cannot decide a recent delivery (of acme/tools to the receiver builds)") {
		t.Errorf("a repository's: %v", err)
	}
	// Without rules of the organization, nothing evaluates a repository's.
	set = mustLoadWith(t, own[strings.Index(own, "-- repositories"):], Options{OnFailure: DenyRepository})
	if err := engine.Prepare(t.Context(), set); err != nil || len(set.Rejected()) != 0 {
		t.Errorf("rules that nothing evaluates: %v, %v", err, set.Rejected())
	}
	if err := engine.Prepare(t.Context(), mustLoad(t, hooks+ownHooks)); err != nil {
		t.Errorf("a sound revision: %v", err)
	}
}

// TestDeliveryProbeIsNeeded: without recent deliveries the same revisions are accepted, and
// deny.
func TestDeliveryProbeIsNeeded(t *testing.T) {
	t.Parallel()
	next := allowAllDeliveries + "\ndeny contains {\"rule\": \"x\"} if {\n\tinput.receiver != \"warm-up\"\n\tto_number(input.receiver) > 1\n}\n"
	set := mustLoad(t, next)
	if err := new(Engine).Prepare(t.Context(), set); err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, set, "deny policy_error error")
}

// TestResumedDeliveryRules: rules about deliveries of the previous process decide after
// they were checked, and those of a kept revision do.
func TestResumedDeliveryRules(t *testing.T) {
	t.Parallel()
	before := mustLoad(t, hooks+ownHooks)
	set, err := Resume(t.Context(), before.Snapshot(), before.Findings(), Options{Names: true, Deadline: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	wantDelivery(t, set, `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`, "repository=acme/tools", "ref=branch:x:updated")
	wantDelivery(t, set, "allow policy_allowed rule=pushes", "repository=acme/other", "ref=branch:x:updated")

	// Deferred: the earlier rules decide until the new ones are checked.
	changed := strings.ReplaceAll(ownHooks, "main", "trunk")
	next, err := loadWith(t, hooks+changed, Options{OnFailure: KeepPrevious, Previous: before, Defer: true})
	if err != nil || len(next.Pending()) != 1 {
		t.Fatal(err, next.Pending())
	}
	d := wantDelivery(t, next, `deny policy_denied rule=only-main rules=only-main,pushes message="main is delivered"`, "repository=acme/tools", "ref=branch:x:updated")
	if d.RepositoryRevision != before.Revision() {
		t.Errorf("by the rules of %v", d.RepositoryRevision)
	}
	checked, err := new(Engine).Check(t.Context(), next, "acme/tools", 0)
	if err != nil || checked.Failure != nil {
		t.Fatal(err, checked)
	}
	settled, _ := next.Settle([]*Checked{checked})
	wantDelivery(t, settled, `deny policy_denied rule=only-trunk rules=only-trunk,pushes message="trunk is delivered"`, "repository=acme/tools", "ref=branch:x:updated")
}
