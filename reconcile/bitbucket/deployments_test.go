package bitbucket

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/uuid"
)

func (e *env) deployments(perHour int) *Deployments { return New(e.client, perHour) }

// walk reads a whole list.
func walk(t *testing.T, d *Deployments, repository string) (runs []identity.DeploymentRun, pages int) {
	t.Helper()
	for next := ""; ; {
		p, err := d.Page(t.Context(), repository, next)
		if err != nil || p.Unread > 0 {
			t.Fatalf("page %d: %d unread, %v", pages, p.Unread, err)
		}
		runs = append(runs, p.Runs...)
		if pages++; p.Next == "" {
			return runs, pages
		}
		next = p.Next
	}
}

// TestDeployments reads runs in every state, in all of the forms in which
// Bitbucket may answer.
func TestDeployments(t *testing.T) {
	for name, form := range map[string]bitbuckettest.Deployments{
		"live": {}, "as documented": {NoStep: true}, "sort ignored": {IgnoreSort: true}, "sort refused": {RefuseSort: true}, "no pipeline": {NoPipeline: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t)
				h.Server.SetDeployments(form)
				want := map[string]identity.DeploymentState{h.step.DeploymentUUID(): identity.DeploymentInProgress}
				for result, state := range map[string]identity.DeploymentState{"SUCCESSFUL": identity.DeploymentSuccessful,
					"FAILED": identity.DeploymentFailed, "STOPPED": identity.DeploymentStopped, "HALTED": identity.DeploymentUnknown} {
					time.Sleep(time.Minute)
					s := h.Payments.Run("main").Step(h.EU)
					s.Complete(result)
					want[s.DeploymentUUID()] = state
				}
				manual := h.Payments.Run("main").ManualStep(h.EU)
				want[manual.DeploymentUUID()] = identity.DeploymentWaiting
				d := h.deployments(100)
				runs, _ := walk(t, d, h.Payments.UUID)
				if len(runs) != len(want) {
					t.Fatalf("%d runs", len(runs))
				}
				for _, r := range runs {
					if r.State != want[r.UUID] || r.WorkspaceUUID != h.Acme.UUID || r.RepositoryUUID != h.Payments.UUID || r.DeploymentUUID != h.EU.UUID ||
						r.Created.IsZero() || r.Started.IsZero() != (r.State == identity.DeploymentWaiting) {
						t.Errorf("%+v", r)
					}
					if (r.StepUUID == "") != (form.NoStep || form.NoPipeline) || (r.PipelineUUID == "") != form.NoPipeline {
						t.Errorf("step %q, pipeline %q", r.StepUUID, r.PipelineUUID)
					}
				}
				sorted := slices.IsSortedFunc(runs, func(a, b identity.DeploymentRun) int { return b.Started.Compare(a.Started) })
				if sorted == (form.IgnoreSort || form.RefuseSort) {
					t.Errorf("sorted: %v", sorted)
				}
			})
		})
	}
}

// TestDeploymentPages reads thousands over many pages, and a step.
func TestDeploymentPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		const n = 1234
		for range n - 1 {
			h.Payments.Run("main").Step(h.EU).Complete("SUCCESSFUL")
		}
		d := h.deployments(1000)
		runs, pages := walk(t, d, h.Payments.UUID)
		if len(runs) != n || pages != 13 || d.Requests() != 13 {
			t.Errorf("%d runs on %d pages in %d requests", len(runs), pages, d.Requests())
		}
		s, err := d.Step(t.Context(), h.Payments.UUID, h.step.Pipeline.UUID, h.step.UUID)
		if err != nil || s.Started.IsZero() || s.Over {
			t.Errorf("%+v, %v", s, err)
		}
		manual := h.Payments.Run("main").ManualStep(h.EU)
		manual.Complete("STOPPED")
		if s, err := d.Step(t.Context(), h.Payments.UUID, manual.Pipeline.UUID, manual.UUID); err != nil || !s.Started.IsZero() || !s.Over {
			t.Errorf("%+v, %v", s, err)
		}
		if _, err := d.Step(t.Context(), h.Payments.UUID, manual.Pipeline.UUID, h.step.UUID); !errors.Is(err, identity.ErrAbsent) {
			t.Errorf("a step of another pipeline: %v", err)
		}
		list, err := d.Repositories(t.Context())
		if err != nil || len(list) != 1 || list[0].FullName != "acme/payments" {
			t.Errorf("%+v, %v", list, err)
		}
	})
}

// TestDeploymentsErrors: which errors concern a repository, and which do not.
func TestDeploymentsErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		d := h.deployments(10_000)
		page := func(next string) error {
			_, err := d.Page(t.Context(), h.Payments.UUID, next)
			return err
		}
		for name, c := range map[string]struct {
			fault bitbuckettest.Fault
			is    error
		}{
			"404":          {bitbuckettest.Failing(404), identity.ErrAbsent},
			"410":          {bitbuckettest.Failing(410), identity.ErrAbsent},
			"403":          {bitbuckettest.Failing(403), identity.ErrForbidden},
			"401":          {bitbuckettest.Failing(401), nil},
			"400":          {bitbuckettest.Failing(400), nil},
			"not JSON":     {bitbuckettest.Replaced("<html>"), nil},
			"no values":    {bitbuckettest.Replaced("{}"), nil},
			"another host": {bitbuckettest.Replaced(`{"values":[],"next":"http://198.51.100.1/2.0/x"}`), nil},
			"503":          {bitbuckettest.Failing(503), nil},
			"reset":        {bitbuckettest.Resetting(), nil},
			"truncated":    {bitbuckettest.Truncated(), nil},
			"too large":    {bitbuckettest.Oversized(2 << 20), nil},
		} {
			fault := h.Server.Inject(bitbuckettest.DeploymentList, c.fault)
			err := page("")
			fault.Clear()
			if err == nil || (c.is != nil) != (errors.Is(err, identity.ErrAbsent) || errors.Is(err, identity.ErrForbidden)) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%s: %v", name, err)
			}
			time.Sleep(time.Hour) // let the API rest
		}
		if err := page(h.Server.APIURL() + "/repositories/acme/payments/deployments?page=what"); !errors.Is(err, identity.ErrCursor) {
			t.Errorf("a page that is not there: %v", err)
		}
		before := h.Server.Count(bitbuckettest.DeploymentList)
		if err := page("http://198.51.100.1/2.0/repositories/x/y/deployments"); !errors.Is(err, identity.ErrCursor) || h.Server.Count(bitbuckettest.DeploymentList) != before {
			t.Errorf("a page elsewhere: %v", err)
		}
		fault := h.Server.Inject(bitbuckettest.DeploymentList, bitbuckettest.Replaced(`{"values":[{"uuid":"x"},{"uuid":"`+otherUUID+`"},7]}`))
		if p, err := d.Page(t.Context(), h.Payments.UUID, ""); err != nil || p.Unread != 3 || len(p.Runs) != 0 {
			t.Errorf("%+v, %v", p, err)
		}
		fault.Clear()
	})
}

// TestDeploymentsBudget: no more requests in an hour than configured, 429 and
// Retry-After are kept to, half of the API's budget is left to steps, and an end
// of waiting is an end.
func TestDeploymentsBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		d := h.deployments(60)
		began := time.Now()
		for range 80 {
			if _, err := d.Page(t.Context(), h.Payments.UUID, ""); err != nil {
				t.Fatal(err)
			}
		}
		if took := time.Since(began); took != time.Hour { // the first 20 at once
			t.Errorf("80 requests took %v", took)
		}
		if _, err := h.client.Repository(t.Context(), h.Payments.UUID, false); err != nil {
			t.Errorf("a name that a step waits for: %v", err)
		}

		time.Sleep(time.Hour)
		limited := bitbuckettest.RateLimited(0)
		limited.Times, limited.Header = 1, http.Header{"Retry-After": {"600"}}
		fault := h.Server.Inject(bitbuckettest.DeploymentList, limited)
		began = time.Now()
		if _, err := d.Page(t.Context(), h.Payments.UUID, ""); err != nil || time.Since(began) != 10*time.Minute || fault.Hits() != 1 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		fault = h.Server.Inject(bitbuckettest.DeploymentList, bitbuckettest.Failing(500))
		if _, err := d.Page(t.Context(), h.Payments.UUID, ""); err == nil || fault.Hits() != maxAttempts {
			t.Errorf("%v after %d tries", err, fault.Hits())
		}
		fault.Clear()

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		slow := h.deployments(1)
		_, _ = slow.Page(t.Context(), h.Payments.UUID, "")
		if _, err := slow.Page(ctx, h.Payments.UUID, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func FuzzDeploymentRun(f *testing.F) {
	f.Add([]byte(`{"uuid":"` + otherUUID + `","release":{"created_on":"2026-11-21T08:40:00.123456789+01:00","pipeline":{"uuid":"` + otherUUID + `","build_number":7}},` +
		`"state":{"name":"COMPLETED","status":{"name":"SUCCESSFUL"},"started_on":"2026-11-21T08:40:00Z"}}`))
	f.Add([]byte(`{"uuid":"` + otherUUID + `","step":{"uuid":"x"},"last_update_time":null,"created_on":"0001-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseRun(body)
		if err != nil {
			return
		}
		for _, id := range []string{r.UUID, r.DeploymentUUID, r.PipelineUUID, r.StepUUID} {
			if _, ok := uuid.Parse(id); id != "" && (!ok || strings.ToLower(id) != id || strings.Contains(id, "{")) {
				t.Errorf("%q is not a bare UUID", id)
			}
		}
		for _, at := range []time.Time{r.Created, r.Started, r.Completed, r.Updated} {
			if !at.IsZero() && (at.Year() < 2000 || at.Year() > 9999 || at.Location() != time.UTC || at.Nanosecond()%1000 != 0) {
				t.Errorf("the time %v", at)
			}
		}
		if r.UUID == "" || r.BuildNumber < 0 || r.State == "" || r.Latest().IsZero() {
			t.Errorf("%+v", r)
		}
	})
}
