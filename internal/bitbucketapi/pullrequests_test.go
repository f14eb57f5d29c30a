package bitbucketapi

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
)

func (e *env) pullRequests(t *testing.T) *PullRequests {
	t.Helper()
	p, err := e.client.PullRequests("payments")
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func commitOf(digit string) string { return strings.Repeat(digit, 40) }

// TestPullRequests reads what Bitbucket has of a commit's pull request: by its index,
// and where there is none, by the latest merged ones.
func TestPullRequests(t *testing.T) {
	for name, links := range map[string]bitbuckettest.CommitLinks{"index": {}, "no app": {NoApp: true}, "indexing": {Indexing: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := build(t)
				h.Acme.AddAccessToken("access-token", bitbuckettest.ScopeRepository, bitbuckettest.ScopePipeline, bitbuckettest.ScopePullRequest)
				kim, ada, eve, lee := h.Server.AddAccount("Kim"), h.Server.AddAccount("Ada"), h.Server.AddAccount("Ada"), h.Server.AddAccount("Lee\x1b[2J")
				h.Payments.SetCommitLinks(links)
				for range 70 { // so that there are pages
					other := h.Payments.AddPull(bitbuckettest.Pull{Title: "other", Author: &kim, Destination: "main", Source: commitOf("9")})
					other.Merge(kim, commitOf("8"))
				}
				time.Sleep(time.Minute)
				p := h.Payments.AddPull(bitbuckettest.Pull{Title: "Settle", Author: &kim, Destination: "main", Source: commitOf("b"),
					Commits: []bitbuckettest.PullCommit{{Hash: commitOf("b"), Author: &kim}, {Hash: commitOf("c")}, {Hash: commitOf("d"), Author: &eve}}})
				p.Approve(ada)
				p.Approve(eve)
				p.Withdraw(eve)
				p.RequestChanges(lee)
				p.Merge(ada, commitOf("a"))
				r := h.pullRequests(t)
				ids, err := r.OfCommit(t.Context(), commitOf("a"))
				if err != nil || !slices.Equal(ids, []int64{71}) {
					t.Fatalf("%v, %v", ids, err)
				}
				got, err := r.PullRequest(t.Context(), 71)
				if err != nil || !got.Merged || got.Author.UUID != kim.UUID || got.MergedBy.UUID != ada.UUID || got.Destination != "main" ||
					got.MergeCommit != commitOf("a")[:12] || got.Source != commitOf("b")[:12] || got.Title != "Settle" {
					t.Errorf("%+v, %v", got, err)
				}
				if len(got.Reviews) != 2 || got.Reviews[0].Account.UUID != ada.UUID || !got.Reviews[0].Approved || got.Reviews[0].At.IsZero() ||
					got.Reviews[1].Approved || !got.Reviews[1].ChangesRequested || got.Reviews[1].Account.Name != "" {
					t.Errorf("%+v", got.Reviews)
				}
				commits, err := r.Commits(t.Context(), 71)
				if err != nil || len(commits) != 3 || commits[0].Author.UUID != kim.UUID || commits[1].Author.UUID != "" || commits[2].Author.UUID != eve.UUID {
					t.Errorf("%+v, %v", commits, err)
				}
				switch ids, err := r.OfCommit(t.Context(), commitOf("e")); {
				case links.Indexing && !errors.Is(err, identity.ErrIndexing):
					t.Errorf("while the index is made: %v, %v", ids, err)
				case !links.Indexing && (err != nil || len(ids) > 0):
					t.Errorf("of a commit without one: %v, %v", ids, err)
				}
				if _, err := r.PullRequest(t.Context(), 99); !errors.Is(err, identity.ErrAbsent) {
					t.Errorf("of none: %v", err)
				}
			})
		})
	}
}

// TestPullRequestsRefused: what the token may not read, what is another's, and what is
// not what was asked for.
func TestPullRequestsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := build(t)
		r := h.pullRequests(t)
		if _, err := r.OfCommit(t.Context(), commitOf("a")); !errors.Is(err, identity.ErrForbidden) {
			t.Errorf("without the scope: %v", err)
		}
		h.Acme.AddAccessToken("access-token", bitbuckettest.ScopePullRequest)
		for body, want := range map[string]string{
			`{"values": [{"id": 0}]}`:   "no id",
			`{"values": [{"id": "7"}]}`: "cannot unmarshal",
			`{}`:                        "not a list",
			`[`:                         "unexpected end",
			`{"values": [], "next": "http://evil.example/2.0/x"}`: "another host",
		} {
			i := h.Server.Inject(bitbuckettest.CommitPullRequests, bitbuckettest.Replaced(body))
			if ids, err := r.OfCommit(t.Context(), commitOf("a")); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, %v", body, ids, err)
			}
			i.Clear()
		}
		h.Payments.AddPull(bitbuckettest.Pull{Title: "x", Destination: "main"})
		for body, want := range map[string]string{`{"id": 2}`: "another one", `{"id": 1, "participants": 7}`: "read a pull request"} {
			i := h.Server.Inject(bitbuckettest.PullRequestGet, bitbuckettest.Replaced(body))
			if p, err := r.PullRequest(t.Context(), 1); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %+v, %v", body, p, err)
			}
			i.Clear()
		}
		i := h.Server.Inject(bitbuckettest.PullRequest, bitbuckettest.Failing(http.StatusServiceUnavailable))
		if _, err := r.OfCommit(t.Context(), commitOf("a")); err == nil || errors.Is(err, identity.ErrAbsent) {
			t.Errorf("while it is unavailable: %v", err)
		}
		i.Clear()
		if _, err := h.client.PullRequests("../other"); err == nil {
			t.Error("a path is taken for a repository")
		}
	})
}

// FuzzPullRequest: for any response of Bitbucket, an approval is one only where the
// response states it, and hashes are hashes.
func FuzzPullRequest(f *testing.F) {
	f.Add([]byte(`{"id":1,"state":"MERGED","participants":[{"approved":true,"state":"approved","user":{"uuid":"{0a000000-0000-4000-8000-000000000001}"}}]}`))
	f.Add([]byte(`{"id":1,"participants":[{"approved":true,"state":"changes_requested"},{"approved":true,"state":null},{"state":"approved"}]}`))
	f.Add([]byte(`{"id":1,"author":null,"closed_by":null,"merge_commit":null,"source":{"commit":null},"destination":null}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := parsePullRequest(body, 1)
		if err != nil {
			return
		}
		for _, hash := range []string{p.MergeCommit, p.Source} {
			if hash != "" && (len(hash) < minHash || strings.Trim(hash, "0123456789abcdef") != "") {
				t.Errorf("%q", hash)
			}
		}
		for _, r := range p.Reviews {
			if r.Approved && (r.ChangesRequested || !strings.Contains(strings.ToLower(string(body)), "approved")) {
				t.Errorf("%+v of %s", r, body)
			}
		}
	})
}
