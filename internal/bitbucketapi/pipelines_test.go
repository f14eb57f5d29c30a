package bitbucketapi

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

// TestPipeline: a pipeline's number and creator, one that Bitbucket does not know,
// and what is not an answer.
func TestPipeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		run := h.Payments.Run("main")
		ask := func(uuid string) (identity.Pipeline, error) {
			return h.client.Pipeline(t.Context(), h.Payments.UUID, uuid)
		}
		p, err := ask(run.UUID)
		if err != nil || p.BuildNumber != int64(run.BuildNumber) || p.Creator != "Robin Builder" || len(p.CreatorUUID) != 36 || !p.FetchedAt.Equal(time.Now()) {
			t.Errorf("got %+v, %v", p, err)
		}
		if p, err := ask("11111111-2222-3333-4444-555555555555"); err != nil || p.BuildNumber != 0 || p.FetchedAt.IsZero() {
			t.Errorf("unknown: %+v, %v", p, err)
		}
		if s := h.client.State(); s.Err != nil || !s.Succeeded.Equal(time.Now()) {
			t.Errorf("that there is no such pipeline is taken for a failure: %+v", s)
		}
		for name, body := range map[string]string{
			"another":   `{"uuid":"` + otherUUID + `","build_number":1}`,
			"no number": `{"uuid":"` + bitbuckettest.Braced(run.UUID) + `"}`,
			"negative":  `{"uuid":"` + bitbuckettest.Braced(run.UUID) + `","build_number":-1}`,
			"text":      `{"uuid":"` + bitbuckettest.Braced(run.UUID) + `","build_number":"1"}`,
			"not JSON":  `<html>`,
		} {
			fault := h.Server.Inject(bitbuckettest.PipelineGet, bitbuckettest.Replaced(body))
			if p, err := ask(run.UUID); err == nil {
				t.Errorf("%s: got %+v", name, p)
			}
			fault.Clear()
		}
		fault := h.Server.Inject(bitbuckettest.PipelineGet, bitbuckettest.Replaced(`{"uuid":"`+bitbuckettest.Braced(run.UUID)+`","build_number":7,"creator":{"display_name":"a\u0000b","uuid":"x"}}`))
		if p, err := ask(run.UUID); err != nil || p.Creator != "" || p.CreatorUUID != "" || p.BuildNumber != 7 {
			t.Errorf("a name that cannot be shown: %+v, %v", p, err)
		}
		fault.Clear()

		// It uses no more than half of what steps wait for.
		for range 100 {
			_, err = ask(run.UUID)
		}
		if !errors.Is(err, ErrBusy) {
			t.Errorf("got %v", err)
		}
		if _, err := h.client.Repository(t.Context(), h.Payments.UUID, false); err != nil {
			t.Errorf("a name that a step waits for: %v", err)
		}
	})
}
