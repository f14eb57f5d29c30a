package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
)

// treeOf loads a tree in which each repository has a rule. A value is the rule's body.
func treeOf(t *testing.T, options rego.Options, repositories map[string]string) *rego.Set {
	t.Helper()
	files := []policy.File{{Path: "egress/a.rego", Content: []byte("package sallyport.egress\n\ndelegate contains {\"rule\": \"own\"}\n")}}
	for name, body := range repositories {
		text := fmt.Sprintf("package sallyport.repository[%q]\n\nallow contains {\"rule\": \"x\"} if {\n\t%s\n}\n", "acme/"+name, body)
		files = append(files, policy.File{Path: "repositories/acme/" + name + "/a.rego", Content: []byte(text)})
	}
	snapshot, err := policy.NewSnapshot(files, "")
	if err != nil {
		t.Fatal(err)
	}
	options.Names, options.OnFailure = true, rego.KeepPrevious
	set, err := rego.Load(t.Context(), snapshot, options)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// repositories returns n repositories, and more besides.
func repositories(n int, more ...string) map[string]string {
	all := map[string]string{}
	for i := range n {
		all[fmt.Sprintf("light%02d", i)] = "true"
	}
	for _, name := range more {
		all[name] = "true"
	}
	return all
}

// slowOnes checks at once, but for repositories whose names begin with slow: those
// exceed every limit, and without one their checks end when they are released.
type slowOnes struct {
	begun   chan string // a slow check without a limit has begun
	release chan struct{}

	failure error // the outcome of all checks

	mu     sync.Mutex
	checks []string
}

func (s *slowOnes) check(ctx context.Context, _ *rego.Set, repository string, limit time.Duration) (*rego.Checked, error) {
	s.mu.Lock()
	s.checks = append(s.checks, repository)
	s.mu.Unlock()
	if strings.HasPrefix(repository, "acme/slow") {
		if limit > 0 {
			return nil, rego.ErrAttempt
		}
		s.begun <- repository
		select {
		case <-s.release:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return &rego.Checked{Repository: repository, Failure: s.failure}, nil
}

// seen returns the repositories that were checked since the last call.
func (s *slowOnes) seen() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := strings.Join(s.checks, " ")
	s.checks = nil
	return names
}

func newSlowOnes() *slowOnes {
	return &slowOnes{begun: make(chan string, 10), release: make(chan struct{})}
}

// outcomes waits for outcomes of n repositories.
func outcomes(t *testing.T, c *Checks, n int) (names []string) {
	t.Helper()
	limit := time.After(time.Minute)
	for len(names) < n {
		select {
		case <-c.Ready():
		case <-limit:
			t.Fatalf("%d of %d outcomes: %v", len(names), n, names)
		}
		for _, o := range c.Outcomes() {
			names = append(names, o.Repository)
		}
	}
	return names
}

// TestSlowChecksDelayNoRevision: repositories with endless checks delay only each other.
// In one queue for all they would delay every repository.
func TestSlowChecksDelayNoRevision(t *testing.T) {
	t.Parallel()
	set := treeOf(t, rego.Options{Defer: true}, repositories(30, "slow1", "slow2", "a-slow"))
	for _, needed := range []bool{false, true} {
		s := newSlowOnes()
		c := NewChecks(s.check, 1, nil)
		if needed { // every check has one attempt
			c.attempts = []time.Duration{0}
			for i := range 30 {
				c.usage(fmt.Sprintf("acme/light%02d", i)).time = time.Hour
			}
			c.usage("acme/a-slow").time = time.Hour // the slow ones are first
			c.Follow(set)
			<-s.begun
			if got := c.Outcomes(); len(got) != 0 {
				t.Errorf("%d repositories were checked behind one that does not end", len(got))
			}
		} else {
			c.Follow(set)
			names := outcomes(t, c, 31)
			if slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, "acme/slow") }) {
				t.Errorf("checked: %v", names)
			}
			<-s.begun
			c.Wait(t.Context()) // it does not wait for the slow ones
			close(s.release)
			outcomes(t, c, 2)
		}
		c.Close()
	}
}

// TestChecksAreFair: the repository whose checks have used least is first.
func TestChecksAreFair(t *testing.T) {
	t.Parallel()
	set := treeOf(t, rego.Options{Defer: true}, repositories(3))
	s := newSlowOnes()
	c := NewChecks(s.check, 1, nil)
	defer c.Close()
	c.usage("acme/light00").time = time.Minute
	c.usage("acme/light01").time = time.Second
	c.Follow(set)
	outcomes(t, c, 3)
	if got, want := s.seen(), "acme/light02 acme/light01 acme/light00"; got != want {
		t.Errorf("in the order %s, want %s", got, want)
	}
}

// TestFollowContinues: a check of the same files continues when another revision
// becomes active, so that frequent revisions do not prevent it; one of other files, or of
// a folder that is gone, ends.
func TestFollowContinues(t *testing.T) {
	t.Parallel()
	tree := repositories(0, "slow1")
	first := treeOf(t, rego.Options{Defer: true}, tree)
	tree["slow1"] = "input.target.port == 443"
	changed := treeOf(t, rego.Options{Defer: true}, tree)
	more := treeOf(t, rego.Options{Defer: true}, map[string]string{"slow1": tree["slow1"], "light": "true"})
	s := newSlowOnes()
	c := NewChecks(s.check, 1, nil)
	defer c.Close()
	c.Follow(first)
	<-s.begun
	c.Follow(changed) // the check of the first ends, and another begins
	<-s.begun
	c.Follow(more)
	outcomes(t, c, 1)
	select {
	case <-s.begun:
		t.Error("the same files are checked again")
	default:
	}
	close(s.release)
	if got := outcomes(t, c, 1); got[0] != "acme/slow1" {
		t.Error(got)
	}
	c.Follow(treeOf(t, rego.Options{Defer: true}, repositories(0)))
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.jobs) != 0 {
		t.Errorf("%d jobs of folders that are gone", len(c.jobs))
	}
}

// TestRetries: a rejection that a loaded machine may have caused is checked again, after
// a time that doubles; one of the files is not, unless an operator requests it.
func TestRetries(t *testing.T) {
	t.Parallel()
	const endless = "some a in numbers.range(1, 3000)\n\tsome b in numbers.range(1, 30000)\n\ta + b == input.target.port + 100000"
	set := treeOf(t, rego.Options{}, map[string]string{"loaded": endless, "wrong": "input.target.hots == 1"})
	if got := set.Rejected(); len(got) != 2 || !rego.Retryable(got[0].Failure) || rego.Retryable(got[1].Failure) {
		t.Fatalf("rejected: %+v", got)
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSlowOnes()
		s.failure = set.Rejected()[0].Failure
		c := NewChecks(s.check, 1, nil)
		defer c.Close()
		c.Follow(set)
		for _, delay := range []time.Duration{time.Minute, 2 * time.Minute, 4 * time.Minute} {
			time.Sleep(delay - time.Second)
			c.Follow(set) // other revisions become active meanwhile
			synctest.Wait()
			if got := s.seen(); got != "" {
				t.Errorf("checked before %v: %s", delay, got)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			if got := s.seen(); got != "acme/loaded" {
				t.Errorf("after %v: %q", delay, got)
			}
			c.Outcomes()
			c.Follow(set)
		}
		c.Follow(set, "acme/wrong", "acme/loaded")
		synctest.Wait()
		if got := s.seen(); got != "acme/loaded acme/wrong" {
			t.Errorf("on request: %q", got)
		}
	})
}

// TestChecksThatFail: a check that could not be executed has no outcome, and is repeated.
func TestChecksThatFail(t *testing.T) {
	t.Parallel()
	set := treeOf(t, rego.Options{Defer: true}, repositories(1))
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		c := NewChecks(func(_ context.Context, _ *rego.Set, repository string, _ time.Duration) (*rego.Checked, error) {
			if !works.Load() {
				return nil, errors.New("no worker starts")
			}
			return &rego.Checked{Repository: repository}, nil
		}, 1, nil)
		defer c.Close()
		c.Follow(set)
		synctest.Wait()
		c.Wait(t.Context()) // an activation does not wait for it
		if got := c.Outcomes(); len(got) != 0 {
			t.Errorf("%d outcomes", len(got))
		}
		works.Store(true)
		time.Sleep(retryError)
		synctest.Wait()
		if got := c.Outcomes(); len(got) != 1 {
			t.Errorf("%d outcomes", len(got))
		}
	})
}

// TestUsageIsBounded: the state about removed repositories is bounded.
func TestUsageIsBounded(t *testing.T) {
	t.Parallel()
	set := treeOf(t, rego.Options{Defer: true}, repositories(1))
	c := NewChecks(newSlowOnes().check, 1, nil)
	defer c.Close()
	for i := range 2 * maxUsage {
		c.usage(fmt.Sprint(i))
	}
	c.Follow(set)
	outcomes(t, c, 1)
	if len(c.used) > maxUsage+1 {
		t.Errorf("%d are remembered", len(c.used))
	}
}
