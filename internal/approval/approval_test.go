package approval

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/identity"
)

// api is a Bitbucket in memory.
type api struct {
	mu       sync.Mutex // guards requests and err while watchers run
	of       map[string][]int64
	pulls    map[int64]identity.PullRequest
	commits  map[int64][]identity.PullRequestCommit
	err      error
	requests int64
}

func (a *api) OfCommit(_ context.Context, commit string) ([]int64, error) {
	return a.of[commit], a.asked()
}

func (a *api) PullRequest(_ context.Context, id int64) (identity.PullRequest, error) {
	p, ok := a.pulls[id]
	if err := a.asked(); err != nil || ok {
		return p, err
	}
	return p, identity.ErrAbsent
}

func (a *api) Commits(_ context.Context, id int64) ([]identity.PullRequestCommit, error) {
	return a.commits[id], a.asked()
}

// asked counts a request, and returns what is wrong with the API.
func (a *api) asked() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.requests++
	return a.err
}

// fails sets the error of later calls.
func (a *api) fails(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

func (a *api) Requests() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.requests
}

// memory is a log in memory, that several watchers share.
type memory struct {
	mu     sync.Mutex
	open   []Activation
	events []*audit.Event
	err    error
}

func (m *memory) Unapproved(_ context.Context, since time.Time) (list []Activation, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, a := range m.open {
		if !a.At.Before(since) && !slices.ContainsFunc(m.events, func(e *audit.Event) bool { return e.Commit == a.Commit }) {
			list = append(list, a)
		}
	}
	return list, m.err
}

func (m *memory) Record(_ context.Context, e *audit.Event) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err == nil {
		e.Normalise()
		m.events = append(m.events, e)
	}
	return m.err
}

// activates adds an activation.
func (m *memory) activates(a Activation) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open = append(m.open, a)
}

// recorded are the events so far.
func (m *memory) recorded() []*audit.Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.events)
}

var (
	kim  = identity.Account{UUID: "0a000000-0000-4000-8000-000000000001", Name: "Kim"}
	ada  = identity.Account{UUID: "0a000000-0000-4000-8000-000000000002", Name: "Ada"}
	eve  = identity.Account{UUID: "0a000000-0000-4000-8000-000000000003", Name: "Eve"}
	tip  = strings.Repeat("a", 40)
	side = strings.Repeat("b", 40)
	rest = strings.Repeat("c", 40)
)

func approves(a identity.Account) identity.Review { return identity.Review{Account: a, Approved: true} }

// merged is Kim's pull request, merged as the tip by Ada, and changed.
func merged(change func(*identity.PullRequest)) identity.PullRequest {
	p := identity.PullRequest{ID: 7, Title: "Let payments settle", Merged: true, Author: kim, MergedBy: ada, Destination: "main", MergeCommit: tip[:12], Source: side[:12]}
	if change != nil {
		change(&p)
	}
	return p
}

// TestEvaluate: who approved is known by UUIDs, of the pull request that put the
// commit on the branch, by approvals that stand.
func TestEvaluate(t *testing.T) {
	again := kim
	again.Name = "Somebody Else"
	for name, c := range map[string]struct {
		change  func(*identity.PullRequest)
		commits []identity.PullRequestCommit
		brought []string
		of      map[string][]int64
		want    Outcome
	}{
		"approved by another":                  {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(ada)} }, want: Approved},
		"by nobody":                            {want: NotApproved},
		"by its author":                        {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(kim)} }, want: SelfApproved},
		"by its author under another name":     {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(again)} }, want: SelfApproved},
		"by its author and another":            {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(kim), approves(ada)} }, want: Approved},
		"by somebody who wrote a commit of it": {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(eve)} }, commits: []identity.PullRequestCommit{{Hash: side, Author: eve}}, want: SelfApproved},
		"by an account that has no UUID": {change: func(p *identity.PullRequest) {
			p.Reviews = []identity.Review{approves(identity.Account{Name: "Ghost"})}
		}, want: SelfApproved},
		"an approval was taken back": {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{{Account: ada, ChangesRequested: true}} }, want: NotApproved},
		"changes are asked for, and a stale yes": {change: func(p *identity.PullRequest) {
			p.Reviews = []identity.Review{{Account: ada, Approved: true, ChangesRequested: true}}
		}, want: NotApproved},
		"the author is gone": {change: func(p *identity.PullRequest) {
			p.Author, p.Reviews = identity.Account{}, []identity.Review{approves(ada)}
		}, want: Unknown},
		"another pull request": {change: func(p *identity.PullRequest) {
			p.MergeCommit, p.Source, p.Reviews = rest[:12], rest[:12], []identity.Review{approves(ada)}
		}, want: NoPullRequest},
		"it is not merged":                  {change: func(p *identity.PullRequest) { p.Merged, p.Reviews = false, []identity.Review{approves(ada)} }, want: NoPullRequest},
		"it was merged into another branch": {change: func(p *identity.PullRequest) { p.Destination, p.Reviews = "next", []identity.Review{approves(ada)} }, want: NoPullRequest},
		"it was merged by fast-forward": {change: func(p *identity.PullRequest) {
			p.MergeCommit, p.Source, p.Reviews = "", tip[:12], []identity.Review{approves(ada)}
		}, want: Approved},
		"there is none":                             {of: map[string][]int64{}, want: NoPullRequest},
		"a push came with it":                       {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(ada)} }, brought: []string{tip, rest}, want: NoPullRequest},
		"its own commits came with it":              {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(ada)} }, brought: []string{tip, side}, of: map[string][]int64{tip: {7}, side: {7}}, want: Approved},
		"an approved push is not a pull request":    {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(ada)} }, of: map[string][]int64{side: {7}}, want: NoPullRequest},
		"a pull request that was deleted meanwhile": {of: map[string][]int64{tip: {99}}, want: NoPullRequest},
	} {
		t.Run(name, func(t *testing.T) {
			a := &api{of: c.of, pulls: map[int64]identity.PullRequest{7: merged(c.change)}, commits: map[int64][]identity.PullRequestCommit{7: c.commits}}
			if c.of == nil {
				a.of = map[string][]int64{tip: {7}}
			}
			config := Config{API: a, Branch: "main", Now: time.Now}
			f, err := config.evaluate(t.Context(), Activation{Commit: tip, Commits: c.brought})
			if err != nil || f.outcome != c.want || (f.cause == "") != (c.want == Approved) {
				t.Fatalf("%+v, %v, want %s", f, err, c.want)
			}
			if e := config.event(Activation{Commit: tip}, f); !json.Valid(e.AppendRecord(nil)) {
				t.Error("the record is not JSON")
			}
		})
	}
}

// TestEachCheckIsNeeded leaves out one check after another, and sees a change called
// approved that only its author approved.
func TestEachCheckIsNeeded(t *testing.T) {
	byAda := []identity.Review{approves(ada)}
	again := kim
	again.Name = "Somebody Else"
	for check, c := range map[string]struct {
		change  func(*identity.PullRequest)
		commits []identity.PullRequestCommit
		brought []string
	}{
		"merged":             {change: func(p *identity.PullRequest) { p.Merged, p.Reviews = false, byAda }},
		"branch":             {change: func(p *identity.PullRequest) { p.Destination, p.Reviews = "next", byAda }},
		"commit":             {change: func(p *identity.PullRequest) { p.MergeCommit, p.Source, p.Reviews = rest[:12], rest[:12], byAda }},
		"authors of commits": {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(eve)} }, commits: []identity.PullRequestCommit{{Hash: side, Author: eve}}},
		"standing":           {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{{Account: ada, ChangesRequested: true}} }},
		"named": {change: func(p *identity.PullRequest) {
			p.Reviews = []identity.Review{approves(identity.Account{Name: "Ghost"})}
		}},
		"UUID":              {change: func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(again)} }},
		"author":            {change: func(p *identity.PullRequest) { p.Author, p.Reviews = identity.Account{}, byAda }},
		"what came with it": {change: func(p *identity.PullRequest) { p.Reviews = byAda }, brought: []string{tip, rest}},
	} {
		a := &api{of: map[string][]int64{tip: {7}}, pulls: map[int64]identity.PullRequest{7: merged(c.change)}, commits: map[int64][]identity.PullRequestCommit{7: c.commits}}
		for without, want := range map[string]bool{"": false, check: true} {
			config := Config{API: a, Branch: "main", without: without}
			f, err := config.evaluate(t.Context(), Activation{Commit: tip, Commits: c.brought})
			if err != nil || (f.outcome == Approved) != want {
				t.Errorf("%s, without %q: %+v, %v", check, without, f, err)
			}
		}
	}
}

// TestTooManyCommits: what cannot be asked about is not called approved.
func TestTooManyCommits(t *testing.T) {
	config := Config{API: &api{}}
	for _, a := range []Activation{{Commit: tip, Commits: slices.Repeat([]string{tip}, maxCommits+1)}, {Commit: tip, Commits: []string{tip}, More: true}} {
		if f, err := config.evaluate(t.Context(), a); err != nil || f.outcome != Unknown {
			t.Errorf("%+v, %v", f, err)
		}
	}
}

// TestHostileNames: whatever people are called, the event is whole.
func TestHostileNames(t *testing.T) {
	hostile := "=cmd|'/C calc'!A0\x00\x1b\u202e<script>\"\\" + strings.Repeat("é", 3000)
	p := merged(func(p *identity.PullRequest) {
		p.Title, p.Destination, p.Author.Name, p.MergedBy.Name = hostile, "main", hostile, hostile
		for n := range 200 {
			p.Reviews = append(p.Reviews, identity.Review{Account: identity.Account{UUID: fmt.Sprintf("0a000000-0000-4000-8000-%012d", 100+n), Name: hostile}, Approved: true})
		}
	})
	config := Config{API: &api{of: map[string][]int64{tip: {7}}, pulls: map[int64]identity.PullRequest{7: p}}, Branch: "main", Now: time.Now}
	f, err := config.evaluate(t.Context(), Activation{Commit: tip})
	if err != nil || f.outcome != Approved {
		t.Fatalf("%+v, %v", f, err)
	}
	e := config.event(Activation{Commit: tip}, f)
	before := map[string]string{}
	for _, a := range e.Attributes {
		before[a.Name] = a.Value
	}
	e.Normalise()
	for _, a := range e.Attributes {
		if before[a.Name] != a.Value {
			t.Errorf("%s is changed when it is made fit to be written: %q", a.Name, a.Value)
		}
	}
	var approvers []person
	if err := json.Unmarshal([]byte(before["approvers"]), &approvers); err != nil || len(approvers) == 0 || len(before["title"]) > maxTitle {
		t.Errorf("%v: %q", err, before["approvers"])
	}
}

// watching starts a watcher in a bubble.
func watching(t *testing.T, m *memory, a *api) (*Watcher, context.CancelFunc) {
	t.Helper()
	w := New(Config{Log: m, API: a, Branch: "main", Repository: "acme/policy", Deadline: 24 * time.Hour, Settle: 15 * time.Minute, Interval: 5 * time.Minute, Stagger: 10 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	go w.Run(ctx)
	return w, cancel
}

// TestWatch: an activation is recorded once, by one of two instances, after Bitbucket
// was unavailable for a while; a restart continues.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a := &api{err: errors.New("unavailable"), of: map[string][]int64{tip: {7}}, pulls: map[int64]identity.PullRequest{7: merged(func(p *identity.PullRequest) { p.Reviews = []identity.Review{approves(ada)} })}}
		one, stop := watching(t, m, a)
		m.activates(Activation{Commit: tip, Revision: "sha256:1", At: time.Now(), Commits: []string{tip}})
		one.Activated()
		time.Sleep(time.Minute)
		if s := one.Status(); len(m.recorded()) > 0 || s.Err == nil || s.Open != 1 || a.Requests() == 0 {
			t.Fatalf("%d events, %+v", len(m.recorded()), s)
		}
		asked := a.Requests()
		time.Sleep(2 * time.Hour)
		if n := a.Requests() - asked; n > 12 {
			t.Errorf("an API that is unavailable was asked %d times in two hours", n)
		}
		stop() // and another process continues
		a.fails(nil)
		two, stopTwo := watching(t, m, a)
		three, stopThree := watching(t, m, a)
		time.Sleep(time.Hour)
		if len(m.recorded()) != 1 || m.recorded()[0].Kind != audit.KindPolicyApproval || m.recorded()[0].Commit != tip || m.recorded()[0].Attributes[0].Value != "approved" {
			t.Fatalf("%+v", m.recorded())
		}
		if n := two.Status().Recorded[Approved] + three.Status().Recorded[Approved]; n != 1 || two.Status().Open+three.Status().Open != 0 {
			t.Errorf("%+v %+v", two.Status(), three.Status())
		}
		stopTwo()
		stopThree()
		synctest.Wait()
	})
}

// TestDeadline: without an answer in time the outcome is unknown with the cause, and
// no_pull_request only after Bitbucket had time to link one.
func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{open: []Activation{{Commit: tip, At: time.Now(), Commits: []string{tip}}}}
		a := &api{err: fmt.Errorf("%w: answered 403", identity.ErrForbidden)}
		w, stop := watching(t, m, a)
		time.Sleep(23 * time.Hour)
		if len(m.recorded()) > 0 {
			t.Fatal("it is called unknown too early")
		}
		time.Sleep(2 * time.Hour)
		if len(m.recorded()) != 1 || m.recorded()[0].Attributes[0].Value != "unknown" || !strings.Contains(m.recorded()[0].Message, "scope pullrequest") {
			t.Fatalf("%+v", m.recorded())
		}
		a.fails(nil)
		m.activates(Activation{Commit: side, At: time.Now(), Commits: []string{side}})
		w.Activated()
		time.Sleep(10 * time.Minute)
		if len(m.recorded()) != 1 {
			t.Fatal("no pull request is on record before Bitbucket could link one")
		}
		time.Sleep(30 * time.Minute)
		if len(m.recorded()) != 2 || m.recorded()[1].Attributes[0].Value != "no_pull_request" {
			t.Fatalf("%+v", m.recorded())
		}
		stop()
		synctest.Wait()
	})
}
