package report

import (
	"fmt"
	"io"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/stepapi"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// newInsights returns the emulated repository, and the configuration of a step of it.
func newInsights(t *testing.T) (*bitbuckettest.Repository, *Insights) {
	t.Helper()
	server, err := bitbuckettest.New(bitbuckettest.Options{BaseURL: "http://api.bitbucket.org"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	repository := server.AddWorkspace("acme").AddRepository("payments", "PAY")
	proxy := httptest.NewServer(repository.StepProxy())
	t.Cleanup(proxy.Close)
	return repository, &Insights{Proxy: proxy.Listener.Addr().String(), Repository: "acme/payments", Commit: commit, Step: "{759DE0C6-eaee-4eaa-b7a6-c507eec759a7}"}
}

const reportID = "sallyport-759de0c6-eaee-4eaa-b7a6-c507eec759a7"

func TestInsights(t *testing.T) {
	t.Parallel()
	repository, insights := newInsights(t)
	publish := func(step *stepapi.Step) *bitbuckettest.Report {
		t.Helper()
		if err := Run(t.Context(), Config{Server: withServer(step), Local: localReport(), Insights: insights}, io.Discard); err != nil {
			t.Fatal(err)
		}
		return repository.Report(commit, reportID)
	}
	r := publish(serverStep())
	if r == nil || r.Result != "FAILED" || len(r.Annotations) != 5 || !strings.Contains(r.Details, "acme/payments, deployment production") {
		t.Fatalf("%+v", r)
	}
	if a := r.Annotations[3]; a.Summary != "denied registry.a.example:443: no_rule_matched (11 times)" || !strings.Contains(a.Details, decision) || a.Severity != "HIGH" {
		t.Errorf("%+v", a)
	}
	// Again, with more than one request of annotations, and more than a report has.
	for _, n := range []int{250, 1200} {
		step := serverStep()
		for i := range n {
			step.Entries = append(step.Entries, stepapi.Entry{Kind: stepapi.KindRefused, Reason: "no_rule_matched", Target: fmt.Sprintf("%d.%s.example:443", i, strings.Repeat("x", 600))})
		}
		if r := publish(step); len(r.Annotations) != min(n+5, 1000) {
			t.Errorf("%d annotations of %d problems", len(r.Annotations), n+5)
		}
	}
	passed := serverStep()
	passed.Requests, passed.Mode = stepapi.Requests{Allowed: 1, WouldDeny: 1}, stepapi.ModeReport
	passed.Entries = []stepapi.Entry{{Kind: stepapi.KindWouldDeny, Reason: "no_rule_matched", Target: "a.example:443"}}
	if err := insights.Publish(t.Context(), summary(t, Config{Server: withServer(passed)})); err != nil {
		t.Fatal(err)
	}
	if r := repository.Report(commit, reportID); r.Result != "PASSED" || len(r.Annotations) != 1 || r.Annotations[0].Severity != "MEDIUM" {
		t.Errorf("%+v", r)
	}
}

// TestInsightsErrors: what is wrong is in the error, and the report is printed all the same.
func TestInsightsErrors(t *testing.T) {
	t.Parallel()
	_, insights := newInsights(t)
	for want, change := range map[string]func(*Insights){
		"BITBUCKET_COMMIT is not set":         func(i *Insights) { i.Commit = "../../x" },
		"BITBUCKET_REPO_FULL_NAME is not set": func(i *Insights) { i.Repository = "acme" },
		"BITBUCKET_STEP_UUID is not set":      func(i *Insights) { i.Step = "" },
		"through Bitbucket's proxy":           func(i *Insights) { i.Proxy = "127.0.0.1:9" },
		"status 404":                          func(i *Insights) { i.Repository = "acme/other" },
	} {
		c := *insights
		change(&c)
		var out strings.Builder
		err := Run(t.Context(), Config{Server: withServer(serverStep()), Insights: &c}, &out)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(out.String(), "registry.a.example") {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if _, err := FromEnvironment(func(string) string { return "" }); err == nil {
		t.Error("an empty environment is a step")
	}
}
