package webhookcmd

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/pause"
	"github.com/sallyport/sallyport/internal/printable"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
)

// traceInterval is the time between two requests for the state of the delivery.
const traceInterval = 200 * time.Millisecond

// tracer returns the present outcome of a delivery: admin.ControlClient.
type tracer interface {
	TraceDelivery(ctx context.Context, r admin.TraceDelivery) (webhook.DeliveryTrace, error)
}

// follow reports the decision about the accepted delivery, its event, and each of its routes,
// for at most wait.
func (t *tester) follow(ctx context.Context, from tracer, wait time.Duration) {
	sum := sha256.Sum256(t.body)
	request := admin.TraceDelivery{Receiver: t.receiver.Name, Digest: hex.EncodeToString(sum[:])}
	end := time.Now().Add(wait)
	trace, err := from.TraceDelivery(ctx, request)
	for err == nil && !settled(trace.Tasks) && time.Now().Before(end) && pause.For(ctx, traceInterval) {
		trace, err = from.TraceDelivery(ctx, request)
	}
	if err != nil {
		t.report.failed("decision", traceRemedy(err), "%v", err)
		return
	}
	t.report.Delivery = trace.ID
	if !t.decided(&trace) {
		return
	}
	if trace.Unqueued != "" {
		t.report.failed("commit", "see the reasons in docs/audit.md, and repeat the test", "event %s is recorded without the delivery: %s", trace.ID, trace.Unqueued)
		return
	}
	t.report.ok("commit", "event %s, number %d of writer %s", trace.ID, trace.WriterSequence, trace.Writer)
	t.routes(&trace, wait)
}

// traceRemedy names what to do where the delivery cannot be followed.
func traceRemedy(err error) string {
	if errors.Is(err, admin.ErrNotRunning) {
		return "run the test on the machine of an instance, or end it after the response with --no-follow"
	}
	if _, mistaken := errors.AsType[*admin.Mistake](err); mistaken {
		return "the instance on this machine and the listener of the URL use different databases: run the test on the machine of another instance"
	}
	return "run the test as root or as the instance's user, or end it after the response with --no-follow"
}

// settled reports whether every task has ended or failed once.
func settled(tasks []webhook.TracedTask) bool {
	return !slices.ContainsFunc(tasks, func(t webhook.TracedTask) bool {
		return t.State != webhook.TaskDone && t.State != webhook.TaskDead && t.LastError == ""
	})
}

// decided reports the decision, and whether the delivery is allowed.
func (t *tester) decided(trace *webhook.DeliveryTrace) bool {
	detail := trace.Verdict + ", " + trace.Reason
	if trace.Rule != "" {
		detail += ", rule " + trace.Rule
	}
	if trace.Message != "" {
		detail += " (" + trace.Message + ")"
	}
	if trace.Revision != "" {
		detail += ", revision " + trace.Revision
	}
	if trace.Verdict == policy.Allow.String() {
		t.report.ok("decision", "%s", detail)
		return true
	}
	remedy := denialRemedy[policy.Reason(trace.Reason)]
	if remedy == "" {
		remedy = "the policy's package sallyport.webhook does not allow this delivery; if its rules need a branch, name one with --branch"
	}
	t.report.failed("decision", remedy, "%s", detail)
	return false
}

var denialRemedy = map[policy.Reason]string{
	webhook.RepositoryNotAllowed: "name one of the receiver's repositories with --repository",
	webhook.EventNotAllowed:      "add the event to the receiver's events",
	policy.PolicyError:           "a rule failed or took too long, or a route names an endpoint that is not configured: run `sallyport policy check DIR -c FILE`",
}

// routes reports the result of each route.
func (t *tester) routes(trace *webhook.DeliveryTrace, wait time.Duration) {
	for route := range strings.SplitSeq(trace.Routes, "; ") {
		if route == string(webhook.RefreshPolicy) || route == string(webhook.RefreshNames) {
			t.report.ok(route, "requested from every instance")
		}
	}
	for i := range trace.Tasks {
		t.route(trace.ID, &trace.Tasks[i], wait)
	}
	if trace.Routes == "" {
		t.report.ok("routes", "none: neither the configuration nor the policy routes a push without a branch; name one with --branch")
	}
}

func (t *tester) route(delivery string, task *webhook.TracedTask, wait time.Duration) {
	stage := string(task.Action) + " " + task.Endpoint
	again := fmt.Sprintf("sallyport webhook replay %s --endpoint %s --reason TEXT", delivery, task.Endpoint)
	switch {
	case task.State == webhook.TaskDone && task.Status == 0:
		t.report.ok(stage, "no request was needed: the delivery does not match the resource, or another refresh covers it")
	case task.State == webhook.TaskDone:
		t.report.ok(stage, "delivered with status %d in %d ms, attempt %d", task.Status, task.Duration.Milliseconds(), task.Attempts)
	case task.State == webhook.TaskDead:
		t.report.failed(stage, "correct that, and send the delivery again: "+again, "a dead letter after %s: %s", printable.Count(task.Attempts, "attempt"), task.LastError)
	case task.LastError != "":
		t.report.failed(stage, failureRemedy(task.LastError)+"; the delivery is sent again until retry_for ends", "attempt %d failed: %s", task.Attempts, task.LastError)
	case task.State == webhook.TaskLeased:
		t.report.failed(stage, "the endpoint is slow, or the agent was killed: see `sallyport webhook show "+delivery+"`", "waiting: an attempt did not end within %s", wait)
	case t.isAgent(task.Endpoint):
		t.report.failed(stage, "start `sallyport webhook agent` beside the endpoint, and compare its credential with `sallyport webhook agent-credential list`", "waiting: no agent fetched the delivery within %s", wait)
	default:
		t.report.failed(stage, "earlier deliveries of the repository wait for the endpoint: see `sallyport webhook deliveries --endpoint "+task.Endpoint+" --state pending`", "waiting: there was no attempt within %s", wait)
	}
}

// failureRemedy names what to do about a failed attempt.
func failureRemedy(cause string) string {
	for _, status := range []int{http.StatusUnauthorized, http.StatusForbidden} {
		if strings.HasSuffix(cause, fmt.Sprint(status)) {
			return "enter the webhook's secret, or that of the endpoint's sign section, at the endpoint"
		}
	}
	if strings.Contains(cause, "must not be dialed") {
		return "add the network of the address to the endpoint's allow_networks, and restart the server"
	}
	return "correct the endpoint, or its section in the configuration"
}

func (t *tester) isAgent(endpoint string) bool {
	return slices.Contains(t.agents, endpoint)
}
