package goproxy

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/proxy"
)

// TestOperatorEndsRequests: a request in progress is ended like a tunnel, and a response
// that has not begun has the reason.
func TestOperatorEndsRequests(t *testing.T) {
	arrived := make(chan struct{})
	up := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
		}
		arrived <- struct{}{}
		<-r.Context().Done()
	}))
	defer up.Close()
	for name, test := range map[string]struct {
		path   string
		cause  proxy.Cause
		reason string
		status int
	}{
		"stop before the answer":   {"/", proxy.CauseEmergencyStop, "emergency_stop", 503},
		"revoked before it":        {"/", proxy.CauseRevoked, "credential_revoked", 407},
		"policy changed before it": {"/", proxy.CausePolicyChanged, "policy_denied", 403},
		"policy changed inside":    {"/half", proxy.CausePolicyChanged, "", 0},
		"stop inside the answer":   {"/half", proxy.CauseEmergencyStop, "", 0},
		"closed inside the answer": {"/half", proxy.CauseOperator, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			tracker := proxy.NewTracker(proxy.TunnelConfig{})
			s := start(t, Config{Tracker: tracker})
			w := &answer{wrote: make(chan string, 1)}
			done := make(chan struct{})
			go func() {
				defer close(done)
				s.do(t, w, "GET", strings.Replace(up.URL, "127.0.0.1", "up.test", 1)+test.path, nil, "")
			}()
			<-arrived
			if test.path == "/half" {
				<-w.wrote
			}
			if n := tracker.Close(test.cause, nil); n != 1 {
				t.Errorf("closed %d", n)
			}
			<-done
			switch {
			case test.reason == "" && (!w.aborted || w.finished):
				t.Errorf("not broken off: %+v", w)
			case test.reason != "" && (w.refusal == nil || string(w.refusal.Reason) != test.reason || w.refusal.Status != test.status || w.refusal.DecisionID == ""):
				t.Errorf("refused with %+v", w.refusal)
			}
			if e := s.last(t); e.CloseReason != string(test.cause) {
				t.Errorf("ended with %s", e.CloseReason)
			}
			if n := tracker.Close(test.cause, nil); n != 0 {
				t.Errorf("%d are still known", n)
			}
		})
	}
}

// TestBarredRequestIsNotSent: one that was admitted just before the operator's
// word never leaves.
func TestBarredRequestIsNotSent(t *testing.T) {
	up := serve(t, respondOK)
	barred := proxy.NewTracker(proxy.TunnelConfig{Barred: func(*proxy.Admission) proxy.Cause { return proxy.CauseRevoked }})
	s := start(t, Config{Tracker: barred})
	w := s.do(t, nil, "GET", "http://up.test:"+up.Port+"/", nil, "")
	if w.refusal == nil || w.refusal.Reason != "credential_revoked" || up.Accepted() != 0 {
		t.Errorf("%+v after %d connections", w, up.Accepted())
	}
}
