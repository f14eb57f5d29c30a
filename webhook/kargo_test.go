package webhook

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// subscriber is what a resource outside is subscribed to: a repository by any of its URLs, with
// a type of ref and a name, or a pull request by its URL. An empty field matches all.
type subscriber struct {
	repository, pullRequest string
	ref                     RefType
	name                    string
}

// matches reports whether an event concerns the subscriber. Ref names match exactly.
func (s subscriber) matches(e *Event) bool {
	if s.pullRequest != "" {
		return e.PullRequest != nil && e.PullRequest.URL == s.pullRequest
	}
	want, err := NormalizeURL(s.repository)
	if err != nil || e.Repository == nil {
		return false
	}
	named := false
	for _, address := range e.Repository.URLs {
		got, err := NormalizeURL(address)
		named = named || err == nil && got == want
	}
	if !named || s.ref == "" {
		return named
	}
	for _, r := range e.Refs {
		if r.Type == s.ref && (s.name == "" || r.Name == s.name) && r.Change != Deleted {
			return true
		}
	}
	return e.Incomplete
}

// TestKargoCases has the seventeen cases of Kargo's tests of its Bitbucket receiver
// (akuity/kargo pkg/webhook/external/bitbucket_test.go), with their intent: what a
// delivery is answered, and whether a subscriber is concerned. Where Sallyport answers
// otherwise on purpose, a comment states why.
func TestKargoCases(t *testing.T) {
	t.Parallel()
	const cloudURL, serverSSH, serverHTTPS = "https://bitbucket.org/acme/egress-policy", "ssh://git@bb.example:7999/prj/app.git", "https://bb.example/bitbucket/scm/prj/app.git"
	const cloudPR, serverPR = "https://bitbucket.org/acme/app/pull-requests/7", "https://bb.example/projects/PRJ/repos/app/pull-requests/9"
	tag := strings.ReplaceAll(replaced(t, cloudPush, `"type":"branch","name":"main"`, `"type":"tag","name":"v1.0.0"`), `"type":"branch","name":"main"`, `"type":"tag","name":"v1.0.0"`)
	declined := strings.Replace(cloudMerged, "MERGED", "DECLINED", 1)
	serverDeclined := strings.NewReplacer("MERGED", "DECLINED", `"eventKey":"pr:merged"`, `"eventKey":"pr:declined"`).Replace(serverMerged)
	contextPath := strings.Replace(serverPush, "https://bb.example/scm/", "https://bb.example/bitbucket/scm/", 1)
	unsigned := func(req *http.Request) { req.Header.Del(SignatureHeader) }
	forged := func(req *http.Request) { req.Header.Set(SignatureHeader, "totally-invalid-signature") }
	for i, c := range []struct {
		name       string
		kind       Kind
		key, body  string
		change     func(*http.Request)
		subscriber subscriber
		status     int
		concerned  bool
	}{
		{"1 signing key missing", 0, "", "", nil, subscriber{}, 0, false}, // below: such a receiver does not start
		{"2 unsupported event type", Cloud, "nonsense", cloudPush, nil, subscriber{}, 400, false},
		{"3 missing signature", Cloud, "repo:push", cloudPush, unsigned, subscriber{}, 401, false},
		{"4 invalid signature", Cloud, "repo:push", cloudPush, forged, subscriber{}, 401, false},
		{"5 malformed request body", Cloud, "repo:push", "invalid json", nil, subscriber{}, 400, false},
		{"6 branch does not match ref", Cloud, "repo:push", cloudPush, nil, subscriber{repository: cloudURL, ref: Branch, name: "not-main"}, 200, false},
		{"7 branch matches ref", Cloud, "repo:push", cloudPush, nil, subscriber{repository: cloudURL, ref: Branch, name: "main"}, 200, true},
		{"8 tag matches ref", Cloud, "repo:push", tag, nil, subscriber{repository: cloudURL, ref: Tag}, 200, true},
		{"9 tag does not match ref", Cloud, "repo:push", tag, nil, subscriber{repository: cloudURL, ref: Branch, name: "main"}, 200, false},
		{"10 server, by its ssh URL", DataCenter, "repo:refs_changed", serverPush, nil, subscriber{repository: serverSSH}, 200, true},
		{"11 fulfilled, by its URL", Cloud, "pullrequest:fulfilled", cloudMerged, nil, subscriber{pullRequest: cloudPR}, 200, true},
		{"12 rejected, by its URL", Cloud, "pullrequest:rejected", declined, nil, subscriber{pullRequest: cloudPR}, 200, true},
		{"13 fulfilled, of another", Cloud, "pullrequest:fulfilled", cloudMerged, nil, subscriber{pullRequest: cloudPR + "0"}, 200, false},
		{"14 merged, by its URL", DataCenter, "pr:merged", serverMerged, nil, subscriber{pullRequest: serverPR}, 200, true},
		{"15 declined, by its URL", DataCenter, "pr:declined", serverDeclined, nil, subscriber{pullRequest: serverPR}, 200, true},
		{"16 merged, of another", DataCenter, "pr:merged", serverMerged, nil, subscriber{pullRequest: serverPR + "0"}, 200, false},
		{"17 server, by its https URL", DataCenter, "repo:refs_changed", contextPath, nil, subscriber{repository: serverHTTPS}, 200, true},

		// What Kargo's receiver lacks (see its reports 4962 and 6110, and its source).
		{"a deletion concerns nobody", Cloud, "repo:push", strings.Replace(cloudPush, `"new":{"type":"branch","name":"main","target":{"hash":"`+hashA+`"}}`, `"new":null`, 1), nil, subscriber{repository: cloudURL, ref: Branch, name: "main"}, 200, false},
		{"a deletion on Data Center", DataCenter, "repo:refs_changed", strings.NewReplacer(`"toHash":"`+hashA, `"toHash":"`+zeros, "UPDATE", "DELETE").Replace(serverPush), nil, subscriber{repository: serverSSH, ref: Branch, name: "main"}, 200, false},
		{"the scp form of the URL", DataCenter, "repo:refs_changed", strings.Replace(serverPush, "ssh://git@bb.example:7999/prj/app.git", "ssh://git@bb.example/prj/app.git", 1), nil, subscriber{repository: "git@bb.example:prj/app.git"}, 200, true},
		{"the URL in capitals", Cloud, "repo:push", strings.Replace(cloudPush, "bitbucket.org/acme/egress-policy", "bitbucket.org/Acme/Egress-Policy", 1), nil, subscriber{repository: cloudURL + ".git"}, 200, true},
		{"a connection test", DataCenter, Ping, `{"test": true}`, unsigned, subscriber{}, 200, false},
		{"a connection test with a body", DataCenter, Ping, serverPush, unsigned, subscriber{repository: serverSSH}, 200, false},
		{"an unknown event of a stranger", Cloud, "nonsense", cloudPush, unsigned, subscriber{}, 401, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if i == 0 {
				if _, err := NewReceiver(Config{Kind: Cloud, Secrets: func() []Secret { return nil }, Decider: allowAll{}, Queue: &memoryQueue{}}); err == nil {
					t.Error("a receiver without a secret starts")
				}
				return
			}
			concerned := false
			p := newReceiverEnv(t, c.kind, func(config *Config) {
				config.Decider = deciderFunc(func(_ context.Context, d *Delivery) (Decision, error) {
					concerned = c.subscriber.matches(d.Event)
					return Decision{Verdict: policy.Allow, Reason: Configured}, nil
				})
			})
			req := delivery(c.kind, c.key, c.body)
			sign(t, req, c.body, "secret")
			if c.change != nil {
				c.change(req)
			}
			status, text := p.send(t, req)
			if status != c.status || concerned != c.concerned {
				t.Errorf("answered %d %q, concerned %v; want %d, %v", status, text, concerned, c.status, c.concerned)
			}
			for _, detail := range []string{"nonsense", "acme", "secret", fmt.Sprintf("%q", c.key)} {
				if strings.Contains(text, detail) {
					t.Errorf("the response shows %s: %q", detail, text)
				}
			}
		})
	}
}
