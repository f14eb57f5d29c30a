package frontend

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/proxy"
)

// reasons reads the vocabulary from its sources, so that a constant that is added
// there cannot be left out here.
func reasons(t *testing.T) (list []policy.Reason) {
	t.Helper()
	values := map[string]string{}
	for _, file := range []string{"../../identity/errors.go", "../../policy/reason.go"} {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			for i, name := range spec.Names {
				switch x := spec.Values[i].(type) {
				case *ast.BasicLit:
					values[name.Name] = strings.Trim(x.Value, `"`)
				case *ast.CallExpr: // Reason(identity.X)
					values[name.Name] = values[x.Args[0].(*ast.SelectorExpr).Sel.Name]
				}
				if strings.HasSuffix(file, "reason.go") {
					list = append(list, policy.Reason(values[name.Name]))
				}
			}
			return true
		})
	}
	if len(list) < 35 || slices.Contains(list, "") {
		t.Fatalf("read %q", list)
	}
	return list
}

// proxyErrors are the types of RFC 9209 section 2.3 that a refusal may name.
var proxyErrors = []string{"dns_timeout", "dns_error", "destination_unavailable", "destination_ip_prohibited", "connection_timeout", "connection_limit_reached",
	"http_request_error", "http_request_denied", "http_protocol_error", "proxy_internal_error"}

// shown is an answer as a client reads it.
type shown struct {
	*http.Response
	line, body string
	secure     bool // on a TLS listener
}

func ask(t *testing.T, s *env, head string) shown {
	t.Helper()
	conn, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if s.tls != nil {
		conn = tls.Client(conn, s.tls)
	}
	if _, err := io.WriteString(conn, head); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%v after %q", err, raw)
	}
	line, _, _ := strings.Cut(string(raw), "\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(strings.NewReader(string(raw))), nil)
	if err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return shown{resp, line, string(body), s.tls != nil}
}

// check verifies that a response has everything that a refusal must show, and nothing else.
func (a shown) check(t *testing.T, reason policy.Reason, recorded bool) {
	t.Helper()
	want, unknown := proxy.NewRefusal(reason, ""), proxy.NewRefusal("no such reason", "")
	if want.Next(false) == unknown.Next(false) {
		t.Errorf("%s has no texts", reason)
	}
	if a.StatusCode < 400 || !strings.HasSuffix(a.line, fmt.Sprintf(" %d Sallyport %s", a.StatusCode, reason)) {
		t.Errorf("%s: the status line is %q", reason, a.line)
	}
	var kind string
	if _, err := fmt.Sscanf(a.Header.Get("Proxy-Status"), "sallyport; error=%s", &kind); err != nil ||
		!slices.Contains(proxyErrors, strings.TrimSuffix(kind, ";")) || !strings.HasSuffix(a.Header.Get("Proxy-Status"), `; details="`+string(reason)+`"`) {
		t.Errorf("%s: Proxy-Status is %q", reason, a.Header.Get("Proxy-Status"))
	}
	if !strings.HasPrefix(a.body, "sallyport: "+string(reason)) || strings.Count(a.body, "\n") != 1 || !strings.Contains(a.body, ". What to do: "+want.Next(a.secure)+".\n") {
		t.Errorf("%s: the text is %q", reason, a.body)
	}
	id := a.Header.Get("Sallyport-Decision")
	if recorded != (id != "") || recorded && !strings.Contains(a.body, id) || a.Header.Get("Sallyport-Reason") != string(reason) {
		t.Errorf("%s: decision %q, reason %q, text %q", reason, id, a.Header.Get("Sallyport-Reason"), a.body)
	}
	if (a.StatusCode == 407) != (a.Header.Get("Proxy-Authenticate") != "") || (want.RetryAfter > 0) != (a.Header.Get("Retry-After") != "") || !a.Close {
		t.Errorf("%s: %v", reason, a.Header)
	}
	if said := fmt.Sprint(a.line, a.Header, a.body); strings.Contains(said, "10.9.8.7") || strings.Contains(said, "127.0.0.1") || strings.Contains(said, "dial tcp") {
		t.Errorf("%s: what is inside gets out: %s", reason, said)
	}
}

// TestEveryReasonIsShown: whatever the reason, a CONNECT and a request, in cleartext and
// in TLS, get everything that a refusal must show.
func TestEveryReasonIsShown(t *testing.T) {
	client, server := certificate(t)
	for name, secured := range map[string]bool{"plain": false, "tls": true} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(s *env, _ *Config, lc *ListenerConfig) {
				if secured {
					s.tls, lc.TLS = client, server
				}
			})
			for form, line := range map[string]string{"CONNECT": "CONNECT api.test:443 HTTP/1.1", "request": "GET http://api.test/ HTTP/1.1", "HTTP/1.0": "CONNECT api.test:443 HTTP/1.0"} {
				for _, reason := range reasons(t) {
					if reason == policy.PolicyAllowed {
						continue
					}
					a := ask(t, s, line+"\r\nHost: api.test\r\nProxy-Authorization: Bearer reason."+string(reason)+"\r\n\r\n")
					if want := proxy.NewRefusal(reason, "").Status; a.StatusCode != want {
						t.Errorf("%s as %s: %d, want %d", reason, form, a.StatusCode, want)
					}
					// Who sends no credential at all is not recorded.
					a.check(t, reason, reason != policy.CredentialMissing)
				}
			}
		})
	}
}

// TestInternalErrorsAreNotShown: what breaks behind the gate reaches a client as one of
// our own sentences, by either way of asking.
func TestInternalErrorsAreNotShown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, closed, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	s := start(t, nil)
	for target, want := range map[string]policy.Reason{
		"undecided.test:80":     policy.PolicyError,
		"unresolved.test:80":    policy.NameUnresolved,
		"10.9.8.7:80":           policy.AddressProhibited,
		"closed.test:" + closed: policy.TargetUnreachable,
	} {
		a := ask(t, s, "CONNECT "+target+" HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer good\r\n\r\n")
		a.check(t, want, true)
		if want == policy.TargetUnreachable {
			continue // the forwarder responds to a request
		}
		ask(t, s, "GET http://"+target+"/ HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer good\r\n\r\n").check(t, want, true)
	}
	s.away.Store(true)
	a := ask(t, s, "CONNECT api.test:443 HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Bearer good\r\n\r\n")
	a.check(t, policy.AuditUnavailable, true)
}
