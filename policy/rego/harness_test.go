package rego

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/destination"
	"github.com/sallyport/sallyport/policy"
)

const (
	workspaceUUID  = "922e118c-f34f-4226-a897-0e0afbec553d"
	repositoryUUID = "5b1b2c5e-7c5a-4f0f-9a9f-0d3a4d4c1b11"
)

// snapshotOf makes a snapshot of the files of an archive that belong to a policy tree.
func snapshotOf(t testing.TB, archive *txtar.Archive) *policy.Snapshot {
	t.Helper()
	var files []policy.File
	for _, f := range archive.Files {
		if policy.Belongs(f.Name) {
			files = append(files, policy.File{Path: f.Name, Content: f.Data})
		}
	}
	s, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// snapshot makes a snapshot of txtar text.
func snapshot(t testing.TB, text string) *policy.Snapshot {
	t.Helper()
	return snapshotOf(t, txtar.Parse([]byte(text)))
}

// mustLoad loads txtar text with names.
func mustLoad(t testing.TB, text string) *Set {
	t.Helper()
	return mustLoadWith(t, text, Options{})
}

// requestFor makes a request of words such as
//
//	repository=acme/payments deployment=production to=api.partner.example:443
//	method=GET path=/v1 header.accept=*/* branch=main time=2026-11-21T08:40:00Z
//
// method makes it an HTTP request instead of a CONNECT.
func requestFor(t testing.TB, words ...string) *policy.Request {
	t.Helper()
	repository, to := "acme/payments", "api.partner.example:443"
	p := &identity.Principal{
		Kind:      identity.KindBitbucketStep,
		Workspace: identity.Workspace{UUID: workspaceUUID},
		Pipeline:  identity.Run{UUID: "0f000000-0000-4000-8000-000000000001"},
		Step:      identity.Run{UUID: "0f000000-0000-4000-8000-000000000002"},
		Branch:    "main",
	}
	r := &policy.Request{
		Principal: p, Action: policy.Connect, ClientAddress: netip.MustParseAddr("192.0.2.7"),
		Time: time.Date(2026, 11, 21, 8, 40, 0, 123456000, time.UTC),
	}
	for _, word := range words {
		key, value, _ := strings.Cut(word, "=")
		switch {
		case key == "repository":
			repository = value
		case key == "deployment":
			p.Deployment = &identity.Deployment{UUID: "0f000000-0000-4000-8000-000000000003",
				Name: strings.ToUpper(value[:1]) + value[1:], Slug: value, Type: value}
		case key == "branch":
			p.Branch = value
		case key == "to":
			to = value
		case key == "method":
			r.Action = policy.Forward
			r.HTTP = &policy.HTTPRequest{Method: value, Path: "/", Headers: map[string]string{}}
		case key == "path":
			r.HTTP.Path = value
		case strings.HasPrefix(key, "header."):
			r.HTTP.Headers[strings.TrimPrefix(key, "header.")] = value
		case key == "time":
			at, err := time.Parse(time.RFC3339, value)
			if err != nil {
				t.Fatal(err)
			}
			r.Time = at
		default:
			t.Fatalf("unknown word %q", word)
		}
	}
	p.Workspace.Slug, _, _ = strings.Cut(repository, "/")
	p.Repository = identity.Repository{UUID: repositoryUUID, FullName: repository, Project: "PAY"}
	parsed, err := destination.ParseAuthority(to)
	if err != nil {
		t.Fatal(err)
	}
	r.Target = parsed
	if r.HTTP != nil {
		r.Target.Scheme = "http"
	}
	return r
}

// described writes a decision as words, without its zero values.
func described(d policy.Decision, err error) string {
	words := []string{d.Verdict.String(), string(d.Reason)}
	add := func(set bool, format string, args ...any) {
		if set {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	add(d.Rule != "", "rule=%s", d.Rule)
	add(len(d.Rules) > 1, "rules=%s", strings.Join(d.Rules, ","))
	add(d.Mode == policy.Report, "report")
	add(d.WouldDeny, "would_deny")
	add(d.Protocol == policy.ProtocolAny, "protocol=any")
	add(d.ECH, "ech")
	add(d.NoSNI, "no_sni")
	add(d.Address, "address")
	add(d.Limits.Lifetime != 0, "lifetime=%s", d.Limits.Lifetime)
	add(d.Limits.Idle != 0, "idle=%s", d.Limits.Idle)
	add(d.Limits.Sent != 0, "sent=%d", d.Limits.Sent)
	add(d.Limits.Received != 0, "received=%d", d.Limits.Received)
	add(!d.Expires.IsZero(), "expires=%s", d.Expires.Format(time.RFC3339))
	add(d.Message != "", "message=%s", strconv.Quote(d.Message))
	add(err != nil, "error")
	return strings.Join(words, " ")
}

func mustLoadWith(t testing.TB, files string, options Options) *Set {
	t.Helper()
	options.Names, options.Deadline = true, 5*time.Second
	return mustLoadTree(t, snapshot(t, files), options)
}

func mustLoadTree(t testing.TB, tree *policy.Snapshot, options Options) *Set {
	t.Helper()
	set, err := Load(t.Context(), tree, options)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func loadWith(t testing.TB, files string, options Options) (*Set, error) {
	t.Helper()
	options.Names, options.Deadline = true, 5*time.Second
	return Load(t.Context(), snapshot(t, files), options)
}

// loadWithout loads with some checks disabled, named with commas between them.
func loadWithout(t *testing.T, checks, files string, options Options) (*Set, error) {
	t.Helper()
	l := newLoader(snapshot(t, files), options)
	l.without = strings.Split(checks, ", ")
	return l.load(t.Context())
}

func expect(t *testing.T, err error, at, message string) {
	t.Helper()
	errs, ok := errors.AsType[Errors](err)
	if !ok {
		t.Fatalf("error %v, want Errors", err)
	}
	for _, e := range errs {
		if e.Line == 0 || e.Column == 0 || e.File == "" {
			t.Errorf("an error without a place: %v", e)
		}
		if strings.HasPrefix(fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column), at) && strings.Contains(e.Error(), message) {
			return
		}
	}
	t.Errorf("no error at %s with %q, but:\n%v", at, message, errs)
}

// wantDecision fails the test unless a set makes the decision.
func wantDecision(t *testing.T, set *Set, want string, words ...string) policy.Decision {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, words...))
	if got := described(d, err); got != want {
		t.Errorf("%s: got %s, want %s (%v)", strings.Join(words, " "), got, want, err)
	}
	return d
}

// wantDenied fails the test unless acme/tools is denied because of its folder.
func wantDenied(t *testing.T, set *Set, says string) {
	t.Helper()
	d, err := set.Decide(t.Context(), requestFor(t, "repository=acme/tools", "to=mirror.example:443"))
	rejected, ok := errors.AsType[*RejectedError](err)
	if !ok || d.Reason != policy.PolicyError || d.Verdict != policy.Deny || !strings.Contains(rejected.ClientText(), says) {
		t.Errorf("got %s, %v", described(d, err), err)
	}
	// The organization's deny is still its own.
	wantDecision(t, set, "deny policy_denied rule=no-partner", "repository=acme/tools", "to=api.partner.example:443")
}

// remarks are the warnings without those of the format.
func remarks(warnings Errors) Errors {
	return slices.DeleteFunc(warnings, func(e Error) bool { return e.Hint == "run sallyport policy fmt" })
}

// org and repo put a body into one file in its right place: the body begins on
// line 3.
func org(body string) string {
	return "-- egress/a.rego --\npackage sallyport.egress\n\n" + body + "\n"
}

func repo(body string) string {
	return "-- repositories/acme/tools/a.rego --\npackage sallyport.repository[\"acme/tools\"]\n\n" + body + "\n"
}
