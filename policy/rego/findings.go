package rego

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/sallyport/sallyport/policy"
)

// ErrFindings says that findings are of another policy, of another version of this
// program, or damaged.
var ErrFindings = errors.New("the findings are not of this policy and this program")

// maxFindings bounds what is read.
const maxFindings = 64 << 20

// belief is that a repository's policy passed in a process before this one. It is
// no proof: who asks for that repository first has it checked and tested, before
// anything is decided by it.
type belief struct {
	seen atomic.Pointer[standing] // what that has found out; nil: nobody has asked
}

// now is a standing for the next revision. What was found out since replaces what
// was believed; what is only believed has to be found out of that revision itself.
func (s standing) now() standing {
	if s.believed == nil {
		return s
	}
	if seen := s.believed.seen.Load(); seen != nil {
		return *seen
	}
	s.believed = new(belief)
	return s
}

// findingsHead is the first line of findings.
type findingsHead struct {
	Format  int    `json:"format"`
	Program string `json:"program"` // what checks: see fingerprint
	Digest  string `json:"digest"`  // of the policy
	Names   bool   `json:"names"`
	Sum     string `json:"sum"` // SHA-256 of what follows
}

const findingsFormat = 1

// finding is of a repository of which there is more to say than that it passed.
type finding struct {
	Repository string   `json:"repository"`
	Reads      []string `json:"reads,omitempty"`
	All        bool     `json:"all,omitempty"`
	Warnings   Errors   `json:"warnings,omitempty"`
	// Failure is why it did not pass, and Tests that its tests were at fault.
	Failure Errors `json:"failure,omitempty"`
	Tests   bool   `json:"tests,omitempty"`
	// Pending is that it was not checked yet.
	Pending bool `json:"pending,omitempty"`
}

func (f *finding) failure() error {
	switch {
	case len(f.Failure) == 0:
		return nil
	case f.Tests:
		return TestsFailed{f.Failure}
	}
	return f.Failure
}

// Findings is what the checks have found out of each repository's policy, for
// [Resume] in the next process. It is nil where not everything was checked.
func (s *Set) Findings() []byte {
	list := []finding{}
	for _, u := range s.allUnits() {
		if u.pending {
			list = append(list, finding{Repository: u.repository, All: true, Pending: true})
			continue
		}
		standing := u.now()
		if errs, ok := errors.AsType[Errors](standing.failure); ok && u.isRepository() {
			_, tests := errors.AsType[TestsFailed](standing.failure)
			list = append(list, finding{Repository: u.repository, All: true, Failure: errs, Tests: tests})
			continue
		}
		if !standing.checked {
			return nil
		}
		if u.isRepository() && (standing.all || len(standing.reads)+len(standing.warnings) > 0) {
			list = append(list, finding{Repository: u.repository, Reads: standing.reads, All: standing.all, Warnings: standing.warnings})
		}
	}
	body, err := json.Marshal(list)
	if err != nil {
		return nil
	}
	head, err := json.Marshal(findingsHead{findingsFormat, fingerprint(), s.snapshot.Digest, s.loader.options.Names, sum(body)})
	if err != nil {
		return nil
	}
	return slices.Concat(head, []byte{'\n'}, body)
}

// Resume returns the set that a process before this one had: snapshot and findings
// are what its [Set.Snapshot] and [Set.Findings] returned. It checks the
// organization's policy and none of the repositories': each of those is checked
// and tested when it is first asked about, and denies if it does not pass. As
// [Options.Previous] it spares the loading of the next revision what is the same.
// [Options.Kept] is what its [Set.Kept] returned; what it had rejected stays rejected.
// The error is [ErrFindings] where the findings cannot be used.
//
// Whoever can write findings can put off that a fault in a policy is noticed, and
// can do no more: nothing is decided by a policy that this process has not checked.
func Resume(ctx context.Context, snapshot *policy.Snapshot, findings []byte, options Options) (*Set, error) {
	kept := options.Kept
	options.Recorded, options.SkipTests, options.Passed = true, true, false
	options.Previous, options.Fallback, options.Kept = nil, nil, nil
	l := newLoader(snapshot, options)
	l.findings = findings
	if l.findings == nil {
		l.findings = []byte{}
	}
	set, err := l.load(ctx)
	if err != nil {
		return nil, err
	}
	if err := set.recallKept(ctx, kept); err != nil {
		return nil, err
	}
	return set, nil
}

// believe takes over findings, after the files were laid out.
func (l *loader) believe() error {
	list, err := readFindings(l.findings, l.snapshot.Digest, l.options.Names)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrFindings, err)
	}
	known := make(map[string]finding, len(list))
	for _, f := range list {
		known[f.Repository] = f
	}
	for _, u := range l.repositories {
		f := known[u.repository]
		if failure := f.failure(); failure != nil && u.failure == nil {
			u.standing = standing{all: true, failure: failure}
			continue
		}
		if f.Pending && u.failure == nil {
			u.standing, u.pending = standing{all: true}, true
			continue
		}
		u.standing = standing{checked: true, warnings: f.Warnings, reads: f.Reads, all: f.All, believed: new(belief), failure: u.failure}
	}
	return nil
}

func readFindings(text []byte, digest string, names bool) ([]finding, error) {
	if len(text) > maxFindings {
		return nil, errors.New("they are too long")
	}
	line, body, ok := bytes.Cut(text, []byte{'\n'})
	if !ok {
		return nil, errors.New("there are none")
	}
	var head findingsHead
	if err := json.Unmarshal(line, &head); err != nil {
		return nil, err
	}
	if want := (findingsHead{findingsFormat, fingerprint(), digest, names, sum(body)}); head != want {
		return nil, errors.New("the policy, the program or the bytes are other ones")
	}
	var list []finding
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, err
	}
	return list, nil
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// fingerprint is of what checks: this program's version and those of its
// libraries, the shape of the input, what a policy may call, and the shipped
// library. Findings of another one are of no use, for its checks were others.
var fingerprint = sync.OnceValue(func() string {
	h := sha256.New()
	if build, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, build)
	}
	fmt.Fprintf(h, "%d %s\n", findingsFormat, schemaJSON)
	for _, b := range capabilities().Builtins {
		fmt.Fprintln(h, b.Name)
	}
	for _, f := range Library() {
		fmt.Fprintf(h, "%s %s\n", f.Path, sum(f.Content))
	}
	return hex.EncodeToString(h.Sum(nil))
})

// faults are the repositories that were believed to pass and do not.
type faults struct {
	mu           sync.Mutex
	repositories map[string]bool
}

// note says of a repository whether it is one.
func (f *faults) note(repository string, is bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !is {
		delete(f.repositories, repository)
		return
	}
	if f.repositories == nil {
		f.repositories = map[string]bool{}
	}
	f.repositories[repository] = true
}

// allUnits are the organization's and the repositories' units, sorted by name.
func (s *Set) allUnits() []*unit {
	var units []*unit
	if len(s.loader.organization.sources) > 0 {
		units = append(units, s.loader.organization)
	}
	for _, name := range sortedKeys(s.units) {
		units = append(units, s.units[name])
	}
	return units
}

// Refused lists the repositories that are refused everything, sorted: findings said
// that their policies had passed, and they did not when they were first asked about.
func (s *Set) Refused() []string {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return sortedKeys(s.faults.repositories)
}

// verify checks and tests a repository's policy that was only believed to pass,
// and compiles it.
func (s *Set) verify(u *unit) (*remoteProgram, error) {
	p, err := s.check(u)
	s.faults.note(u.repository, err != nil)
	return p, err
}

func (s *Set) check(u *unit) (*remoteProgram, error) {
	one := s.loader.alone()
	v := *u
	v.standing = standing{}
	if err := one.inspectApart(context.Background(), &v); err != nil {
		return nil, err
	}
	if len(one.errors) == 0 && slices.ContainsFunc(u.sources, func(s source) bool { return s.test }) {
		var report TestReport
		if _, _, err := one.testApart(context.Background(), &v, &report); err != nil {
			return nil, fmt.Errorf("testing %s: %w", unitName(u), err)
		}
		one.errors = report.failures()
	}
	if len(one.errors) > 0 {
		return nil, fmt.Errorf("its cached check was accepted, and it fails: %w", one.errors.sorted())
	}
	p, err := s.loader.compileApart(context.Background(), u)
	if err != nil {
		return nil, err
	}
	v.checked, v.warnings = true, one.warnings
	u.believed.seen.Store(&v.standing)
	return p, nil
}

// unchecked reports whether a unit is only believed to pass.
func (u *unit) unchecked() bool { return u.believed != nil && u.believed.seen.Load() == nil }
