package resource

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/dispatch"
)

// TestPresets annotates an object of each preset, with the value that its controller reads.
func TestPresets(t *testing.T) {
	t.Parallel()
	for _, preset := range Presets() {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			created := s.add(preset, "demo", "Running", nil)
			k := s.target(t, preset, func(c *KubernetesConfig) { c.Object.Name = "demo" })
			key := k.config.Object.Annotation
			var values []string
			for range 2 {
				if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Delivered || a.Status != 200 {
					t.Fatalf("%+v: %s", a, a.Cause())
				}
				values = append(values, created.annotation(s, key))
			}
			if created.annotation(s, "kept") != "yes" {
				t.Error("the patch removed another annotation")
			}
			if preset == ArgoCDApplication {
				if values[0] != "normal" {
					t.Errorf("value %q", values[0])
				}
				return
			}
			if _, err := time.Parse(time.RFC3339Nano, values[0]); err != nil || values[0] == values[1] {
				t.Errorf("values %q: each has to differ from the one before", values)
			}
		})
	}
}

// TestWaitingPromotions annotates the promotions with the labels that wait for a pull request,
// over several pages, and no other: they would run their present step again.
func TestWaitingPromotions(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	wanted := map[string]string{"app": "web"}
	pipeline := []string{"git-clone", "git-open-pr", "git-wait-for-pr", "argocd-update"}
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		s.waiting(name, "Running", wanted, 2, pipeline...)
	}
	s.waiting("first-step", "Running", wanted, 0, "git-wait-for-pr")
	s.waiting("opens", "Running", wanted, 1, pipeline...)
	s.waiting("updates", "Running", wanted, 3, pipeline...)
	s.waiting("past-its-steps", "Running", wanted, 4, pipeline...)
	s.waiting("negative", "Running", wanted, -1, pipeline...)
	s.waiting("without-steps", "Running", wanted, 0)
	s.waiting("other", "Running", map[string]string{"app": "api"}, 2, pipeline...)
	for _, phase := range []string{"Pending", "", "Succeeded", "Failed", "Errored", "Aborted", "running"} {
		s.waiting("phase-"+strings.ToLower(phase)+"x", phase, wanted, 2, pipeline...)
	}
	s.add(KargoWarehouse, "warehouse", "", wanted)
	k := s.target(t, KargoPromotion, func(c *KubernetesConfig) { c.Object.Selector = "app=web" })
	a := k.Refresh(t.Context(), webhook.Task{})
	patches, _ := s.state()
	slices.Sort(patches)
	if got := strings.Join(patches, " "); a.Outcome() != dispatch.Delivered || got != "a b c d e first-step" {
		t.Errorf("%+v, patched %q", a, got)
	}
	// Without the check of the step, all of them are annotated.
	k = s.target(t, KargoPromotion, func(c *KubernetesConfig) { c.Object.Selector, c.Object.WaitingStep = "app=web", "" })
	before := len(patches)
	if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Delivered {
		t.Errorf("%+v", a)
	}
	if patches, _ = s.state(); len(patches)-before != 18 {
		t.Errorf("%d patches without the check", len(patches)-before)
	}
}

// TestStatuses: each rejection of the API server is an attempt with its status, and with a
// cause that names the remedy and never the token.
func TestStatuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change  func(*apiServer, *KubernetesConfig)
		outcome dispatch.Outcome
		status  int
		cause   string
	}{
		"bad token": {func(s *apiServer, _ *KubernetesConfig) { s.token = "another" }, dispatch.Failed, 401, "check token_file"},
		"no rule": {func(s *apiServer, _ *KubernetesConfig) {
			delete(s.rules, "patch warehouses.kargo.akuity.io kargo-demo")
		}, dispatch.Failed, 403, "grant the service account patch on warehouses.kargo.akuity.io in namespace kargo-demo"},
		"no rule to list": {func(s *apiServer, c *KubernetesConfig) {
			delete(s.rules, "list warehouses.kargo.akuity.io kargo-demo")
			c.Object.Name, c.Object.Selector = "", "app=web"
		}, dispatch.Failed, 403, "grant the service account list on"},
		"no such object":   {func(_ *apiServer, c *KubernetesConfig) { c.Object.Name = "other" }, dispatch.Failed, 404, "check api_version"},
		"no such version":  {func(s *apiServer, _ *KubernetesConfig) { clear(s.served) }, dispatch.Failed, 404, "check api_version"},
		"endless conflict": {func(s *apiServer, _ *KubernetesConfig) { s.conflicts = 100 }, dispatch.Failed, 409, "changes all the time"},
		"one conflict":     {func(s *apiServer, _ *KubernetesConfig) { s.conflicts = 1 }, dispatch.Delivered, 200, ""},
		"unreadable token": {func(_ *apiServer, c *KubernetesConfig) {
			c.Token = func() (string, error) { return "", errors.New("gone") }
		}, dispatch.Failed, 0, "token_file: gone"},
		"unknown authority": {func(_ *apiServer, c *KubernetesConfig) { c.RootCAs = nil }, dispatch.Failed, 0, "certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newAPIServer(t)
			s.add(KargoWarehouse, "demo", "", nil)
			k := s.target(t, KargoWarehouse, func(config *KubernetesConfig) {
				config.Object.Name = "demo"
				c.change(s, config)
			})
			a := k.Refresh(t.Context(), webhook.Task{})
			if a.Outcome() != c.outcome || a.Status != c.status || c.cause != "" && !strings.Contains(a.Cause(), c.cause) || strings.Contains(a.Cause(), "token-0123456789") {
				t.Errorf("%+v, %s", a, a.Cause())
			}
		})
	}
}

// TestContentTypeIsNeeded: the stand-in, as the real server, rejects another content type and
// an annotation that is not valid; both end the task early.
func TestContentTypeIsNeeded(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.add(KargoWarehouse, "demo", "", nil)
	for want, change := range map[int]func(*http.Request, *Kubernetes){
		415: func(r *http.Request, _ *Kubernetes) { r.Header.Set("Content-Type", "application/json") },
		422: func(_ *http.Request, k *Kubernetes) {},
	} {
		k := s.target(t, KargoWarehouse, func(c *KubernetesConfig) { c.Object.Name = "demo" })
		if want == 422 {
			k.config.Object.Annotation = "not a key"
		}
		k.do = func(r *http.Request) (*http.Response, error) {
			change(r, k)
			return k.transport.RoundTrip(r)
		}
		if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Rejected || a.Status != want {
			t.Errorf("want %d, got %+v: %s", want, a, a.Cause())
		}
	}
}

// TestRedirectsAreNotFollowed: a redirect is a failure, and its target gets no request.
// Without that control the target would receive a request.
func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var reached atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	server := httptest.NewTLSServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	s := newAPIServer(t)
	k := s.target(t, KargoWarehouse, func(c *KubernetesConfig) {
		c.Server, c.RootCAs, c.Object.Name = u, server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, "demo"
	})
	if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Failed || a.Status != 307 || reached.Load() != 0 {
		t.Errorf("%+v, the target had %d requests", a, reached.Load())
	}
	k.do = (&http.Client{Transport: k.transport}).Do // follows redirects
	if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Delivered || reached.Load() == 0 {
		t.Errorf("without the control: %+v, the target had %d requests", a, reached.Load())
	}
}

// TestTokenIsReadAgain: Kubernetes replaces the files of projected tokens.
func TestTokenIsReadAgain(t *testing.T) {
	t.Parallel()
	s := newAPIServer(t)
	s.add(KargoWarehouse, "demo", "", nil)
	var present atomic.Value
	present.Store("expired")
	k := s.target(t, KargoWarehouse, func(c *KubernetesConfig) {
		c.Object.Name = "demo"
		c.Token = func() (string, error) { return present.Load().(string), nil }
	})
	if a := k.Refresh(t.Context(), webhook.Task{}); a.Status != 401 {
		t.Errorf("%+v", a)
	}
	present.Store("token-0123456789")
	if a := k.Refresh(t.Context(), webhook.Task{}); a.Outcome() != dispatch.Delivered {
		t.Errorf("%+v: %s", a, a.Cause())
	}
}

// TestResponsesAreBounded: an endless list and a server that does not answer are failures.
func TestResponsesAreBounded(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	defer close(stop)
	mode := atomic.Int32{}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch mode.Load() {
		case 0:
			chunk := []byte(strings.Repeat(" ", 64<<10))
			for r.Context().Err() == nil {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		case 1: // a list without an end
			_, _ = w.Write([]byte(`{"metadata":{"continue":"more"},"items":[` + strings.Repeat(`{"metadata":{"name":"a"}},`, 99) + `{"metadata":{"name":"a"}}]}`))
		case 2:
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		case 3: // after which the body is the connection, and has no end
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
			<-stop
		}
	}))
	defer server.Close()
	u, _ := url.Parse(server.URL)
	s := newAPIServer(t)
	for i, want := range []string{"more than 4194304 bytes", "more than 1000 objects", "did not answer within", "the status is 101"} {
		mode.Store(int32(i))
		k := s.target(t, KargoWarehouse, func(c *KubernetesConfig) {
			c.Server, c.RootCAs, c.Object.Selector = u, server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, "a=b"
			if i == 2 {
				c.Timeout = 100 * time.Millisecond
			}
		})
		if a := k.Refresh(context.Background(), webhook.Task{}); a.Outcome() != dispatch.Failed || !strings.Contains(a.Cause(), want) {
			t.Errorf("mode %d: %+v: %s", i, a, a.Cause())
		}
	}
}

// FuzzReadList: whatever an API server responds, a name that is used in a path is a valid
// name.
func FuzzReadList(f *testing.F) {
	f.Add([]byte(`{"metadata":{"continue":"x"},"items":[{"metadata":{"name":"a.b-c"},"spec":{"steps":[{"uses":"git-wait-for-pr"}]},"status":{"phase":"Running"}}]}`))
	f.Add([]byte(`{"items":[{"metadata":{"name":"../x"}}]}`))
	f.Add([]byte(`{"items":[{"status":{"phase":7}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		names, following, err := readList(body, presets[KargoPromotion].WaitingStep)
		if err != nil && (len(names) > 0 || following != "") {
			t.Error("names with an error")
		}
		if all, _, allErr := readList(body, ""); err == nil && allErr == nil && len(all) < len(names) {
			t.Error("more objects wait than there are")
		}
		for _, name := range names {
			if CheckName(name) != nil || strings.ContainsAny(name, "/?#%") || strings.Contains(name, "..") {
				t.Errorf("name %q", name)
			}
		}
	})
}
