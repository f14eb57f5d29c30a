package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

func start(t *testing.T, s *Server) (base string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		if err := s.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + l.Addr().String()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestReadinessTellsWhatIsWrong(t *testing.T) {
	s := NewServer(NewMetrics("test"))
	var broken atomic.Bool
	s.AddCheck("audit", func() error {
		if broken.Load() {
			return errors.New("the database is away")
		}
		return nil
	})
	s.AddDetail("revision", func() any { return "sha256:0" })
	s.AddWarning("seal", func() error {
		if broken.Load() {
			return errors.New("nothing is sealed")
		}
		return nil
	})
	base := start(t, s)

	if status, body := get(t, base+"/readyz"); status != 200 || strings.Contains(body, "warnings") || !strings.Contains(body, `"revision": "sha256:0"`) {
		t.Errorf("ready: %d %s", status, body)
	}
	broken.Store(true)
	status, body := get(t, base+"/readyz")
	var answer readiness
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if status != 503 || answer.Ready || answer.Checks["audit"] != "the database is away" || answer.Warnings["seal"] != "nothing is sealed" {
		t.Errorf("not ready: %d %s", status, body)
	}
	if status, _ := get(t, base+"/healthz"); status != 200 {
		t.Errorf("healthz is %d while not ready: a restart would not help", status)
	}
}

// TestWarningsLeaveAnInstanceReady: what is wrong and lets requests pass does not
// take an instance out of rotation.
func TestWarningsLeaveAnInstanceReady(t *testing.T) {
	s := NewServer(NewMetrics("test"))
	s.AddWarning("seal", func() error { return errors.New("nothing is sealed") })
	if status, body := get(t, start(t, s)+"/readyz"); status != 200 || !strings.Contains(body, `"seal": "nothing is sealed"`) {
		t.Errorf("%d %s", status, body)
	}
}

// TestNotAProxy: a client whose proxy URL has the port of the admin address learns
// so.
func TestNotAProxy(t *testing.T) {
	base := start(t, NewServer(NewMetrics("test")))
	for request, want := range map[string]string{
		"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n":         "HTTP/1.1 400",
		"GET http://a.example/healthz HTTP/1.1\r\nHost: a.example\r\n\r\n":      "HTTP/1.1 400",
		"GET /healthz HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n": "HTTP/1.1 200",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, request); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		if got := resp.Proto + " " + resp.Status[:3]; got != want || (resp.StatusCode == 400) != strings.Contains(string(body), "the port of a listener") {
			t.Errorf("%q: %s %s", request, got, body)
		}
		_ = conn.Close()
	}
}

func TestMetricsCountInTheDesignsWords(t *testing.T) {
	m := NewMetrics("test")
	m.Decided(policy.Connect, policy.Deny, policy.NoRuleMatched, false)
	m.Decided(policy.Connect, policy.Allow, policy.NoRuleMatched, true)
	m.Unrecorded(policy.CredentialMissing)
	m.Stage("decide", 20*time.Microsecond)
	m.Reevaluated(300 * time.Millisecond)
	m.Closed(policy.Connect, proxy.CauseFinished, 10, 20)
	m.Gauge("sallyport_tunnels", "Open tunnels.", func() float64 { return 3 })
	base := start(t, NewServer(m))
	_, body := get(t, base+"/metrics")
	for _, want := range []string{
		`sallyport_decisions_total{action="connect",reason="no_rule_matched",verdict="deny",would_deny="false"} 1`,
		`sallyport_decisions_total{action="connect",reason="no_rule_matched",verdict="allow",would_deny="true"} 1`,
		`sallyport_unrecorded_total{reason="credential_missing"} 1`,
		`sallyport_stage_seconds_count{stage="decide"} 1`,
		`sallyport_reevaluation_duration_seconds_bucket{le="0.25"} 0`,
		`sallyport_reevaluation_duration_seconds_bucket{le="0.5"} 1`,
		`sallyport_closed_total{action="connect",cause="finished"} 1`,
		`sallyport_sent_bytes_total 10`,
		`sallyport_received_bytes_total 20`,
		`sallyport_tunnels 3`,
		`sallyport_build_info{version="test"} 1`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no line %s", want)
		}
	}
}
