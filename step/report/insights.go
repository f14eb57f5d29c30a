package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/sallyport/sallyport/internal/stepapi"
)

// Insights publishes reports of Code Insights with the commit of a step, through Bitbucket's
// proxy in the step, which adds the credential
// (https://support.atlassian.com/bitbucket-cloud/docs/code-insights/).
type Insights struct {
	Proxy      string // host:port of Bitbucket's proxy; "": localhost:29418
	Repository string // workspace/slug: BITBUCKET_REPO_FULL_NAME
	Commit     string // BITBUCKET_COMMIT
	Step       string // the UUID of the step: BITBUCKET_STEP_UUID
}

// Bounds of the API: 100 annotations of a request (its error message states that), 1,000 of
// a report, 450 characters of a title or summary, 2,000 of details.
const (
	maxAnnotations  = 1000
	maxBulk         = 100
	maxShort        = 450
	maxLong         = 2000
	insightsTimeout = 30 * time.Second // of one request
)

var (
	repositoryName = regexp.MustCompile(`^[A-Za-z0-9_.{}-]{1,128}/[A-Za-z0-9_.{}-]{1,128}$`)
	commitHash     = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
	uuidText       = regexp.MustCompile(`^\{?[0-9a-fA-F-]{36}\}?$`)
)

// FromEnvironment returns the configuration of a step of Bitbucket Pipelines, or an error
// that names the missing variable.
func FromEnvironment(getenv func(string) string) (*Insights, error) {
	i := &Insights{Repository: getenv("BITBUCKET_REPO_FULL_NAME"), Commit: getenv("BITBUCKET_COMMIT"), Step: getenv("BITBUCKET_STEP_UUID")}
	return i, i.check()
}

func (i *Insights) check() error {
	for _, v := range []struct {
		name, value string
		form        *regexp.Regexp
	}{
		{"BITBUCKET_REPO_FULL_NAME", i.Repository, repositoryName}, {"BITBUCKET_COMMIT", i.Commit, commitHash}, {"BITBUCKET_STEP_UUID", i.Step, uuidText},
	} {
		if !v.form.MatchString(v.value) {
			return fmt.Errorf("code insights: %s is not set to a value of Bitbucket Pipelines: run the command in a step", v.name)
		}
	}
	return nil
}

// insightsReport and annotation are the API's own forms (REST 2.0, Reports).
type insightsReport struct {
	ExternalID string         `json:"external_id"`
	Title      string         `json:"title"`
	Details    string         `json:"details"`
	Reporter   string         `json:"reporter"`
	Type       string         `json:"report_type"`
	Result     string         `json:"result"`
	Data       []insightsData `json:"data"`
}

type insightsData struct {
	Title string `json:"title"`
	Type  string `json:"type"`
	Value any    `json:"value"`
}

type annotation struct {
	ExternalID string `json:"external_id"`
	Type       string `json:"annotation_type"`
	Summary    string `json:"summary"`
	Details    string `json:"details,omitempty"`
	Severity   string `json:"severity"`
	Result     string `json:"result"`
}

// Publish replaces the step's report with this one. The report has failed if a request was
// denied or a tunnel closed; each problem is an annotation.
func (i *Insights) Publish(ctx context.Context, s *Summary) error {
	if err := i.check(); err != nil {
		return err
	}
	id := "sallyport-" + strings.ToLower(strings.Trim(i.Step, "{}"))
	// Annotations of an earlier report of the step would remain.
	if err := i.send(ctx, http.MethodDelete, id, nil); err != nil {
		if status, ok := errors.AsType[statusError](err); !ok || status.status != http.StatusNotFound {
			return err
		}
	}
	annotations := annotationsOf(s, id)
	if err := i.send(ctx, http.MethodPut, id, reportOf(s, id, len(annotations))); err != nil {
		return err
	}
	for len(annotations) > 0 {
		n := min(len(annotations), maxBulk)
		if err := i.send(ctx, http.MethodPost, id+"/annotations", annotations[:n]); err != nil {
			return err
		}
		annotations = annotations[n:]
	}
	return nil
}

func reportOf(s *Summary, id string, annotations int) *insightsReport {
	r := &insightsReport{ExternalID: id, Title: "Sallyport: egress of a step", Reporter: "Sallyport", Type: "SECURITY", Result: "PASSED",
		Details: shorten(title(s)+": "+counts(s)+".", maxLong)}
	if s.Requests.Denied+s.Requests.Closed > 0 {
		r.Result = "FAILED"
	}
	if n := len(s.Problems); n > annotations {
		r.Details = shorten(fmt.Sprintf("%s %d of %d problems are listed.", r.Details, annotations, n), maxLong)
	}
	for _, d := range []struct {
		title string
		value int64
	}{{"Allowed requests", s.Requests.Allowed}, {"Denied requests", s.Requests.Denied}, {"Closed tunnels", s.Requests.Closed},
		{"Requests that enforce mode would deny", s.Requests.WouldDeny}, {"Tunnels that enforce mode would close", s.Requests.WouldClose}} {
		r.Data = append(r.Data, insightsData{d.title, "NUMBER", d.value})
	}
	if s.Mode != "" {
		r.Data = append(r.Data, insightsData{"Mode", "TEXT", clean(s.Mode)})
	}
	return r
}

func annotationsOf(s *Summary, id string) []annotation {
	var all []annotation
	for n := range s.Problems {
		if len(all) == maxAnnotations {
			break
		}
		r := &s.Problems[n]
		a := annotation{ExternalID: fmt.Sprintf("%s-%d", id, n), Type: "VULNERABILITY", Severity: "HIGH", Result: "FAILED",
			Summary: shorten(fmt.Sprintf("%s %s: %s (%s)", clean(r.Outcome), clean(r.Target), clean(r.Reason), times(r.Times)), maxShort),
			Details: shorten(details(r), maxLong)}
		if r.Outcome == stepapi.KindWouldDeny || r.Outcome == stepapi.KindWouldClose {
			a.Severity, a.Result = "MEDIUM", "PASSED"
		}
		all = append(all, a)
	}
	return all
}

// shorten bounds a text of ASCII.
func shorten(s string, limit int) string {
	if len(s) > limit {
		return s[:limit-3] + "..."
	}
	return s
}

// statusError is a response of the API other than success.
type statusError struct {
	method string
	status int
	text   string
}

func (e statusError) Error() string {
	return fmt.Sprintf("%s: status %d: %s: check that Bitbucket's proxy in the step is intact (sallyport-step doctor)", e.method, e.status, e.text)
}

// send sends one request about the report to the API, through Bitbucket's proxy, without a
// credential: the proxy adds it to http:// requests only.
func (i *Insights) send(ctx context.Context, method, path string, content any) error {
	body := []byte(nil)
	if content != nil {
		var err error
		if body, err = json.Marshal(content); err != nil {
			return err
		}
	}
	proxy := i.Proxy
	if proxy == "" {
		proxy = "localhost:29418"
	}
	workspace, slug, _ := strings.Cut(i.Repository, "/")
	address := "http://api.bitbucket.org/2.0/repositories/" + url.PathEscape(workspace) + "/" + url.PathEscape(slug) + "/commit/" + i.Commit + "/reports/" + path
	ctx, cancel := context.WithTimeout(ctx, insightsTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	if content != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	transport := &http.Transport{Proxy: http.ProxyURL(&url.URL{Scheme: "http", Host: proxy}), DisableKeepAlives: true}
	response, err := transport.RoundTrip(r) // follows no redirect
	if err != nil {
		return fmt.Errorf("%s through Bitbucket's proxy %s: %w", method, proxy, err)
	}
	defer response.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(response.Body, maxText))
	if response.StatusCode/100 != 2 {
		return statusError{method, response.StatusCode, clean(string(text))}
	}
	return nil
}
