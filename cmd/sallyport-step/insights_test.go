package main

import (
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestReportIsPublished: a report is published with the commit, through the proxy that the
// command names, and doctor finds no fault in the variables that start has set.
func TestReportIsPublished(t *testing.T) {
	t.Parallel()
	p := newSallyport(t)
	bitbucket, err := bitbuckettest.New(bitbuckettest.Options{BaseURL: "http://api.bitbucket.org"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bitbucket.Close)
	repository := bitbucket.AddWorkspace("acme").AddRepository("app", "APP")
	proxy := httptest.NewServer(repository.StepProxy())
	t.Cleanup(proxy.Close)
	s := newStep(t, "sh")
	const commit = "0123456789abcdef0123456789abcdef01234567"
	s.env = append(s.env, "BITBUCKET_REPO_FULL_NAME=acme/app", "BITBUCKET_COMMIT="+commit, "BITBUCKET_STEP_UUID={759de0c6-eaee-4eaa-b7a6-c507eec759a7}")
	out, errOut, status := s.run("set -eu\n" + start(p, "") + "curl -sS -p http://denied.test/ || :\n" +
		"sallyport-step report --code-insights --bitbucket-proxy " + proxy.Listener.Addr().String() + "\n" +
		"sallyport-step doctor || :\nsallyport-step stop >&2\n")
	for _, want := range []string{"what this step of acme/app requested", "denied           1  denied.test:80", "ok       variables"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q: status %d\n%s\n%s", want, status, out, errOut)
		}
	}
	if r := repository.Report(commit, "sallyport-759de0c6-eaee-4eaa-b7a6-c507eec759a7"); r == nil || len(r.Annotations) != 1 {
		t.Errorf("%+v", r)
	}
	for part := range strings.SplitSeq(testToken, ".") {
		if strings.Contains(out+errOut, part) {
			t.Errorf("the output has a part of the token: %s%s", out, errOut)
		}
	}
}
