package rego

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/policy/rego/functions"
)

// ErrFindings is the error for findings of another policy or of another version of this
// program, and for damaged ones.
var ErrFindings = errors.New("the findings are not of this policy and this program")

// maxFindings bounds what is read.
const maxFindings = 64 << 20

// findingsHead is the first line of findings.
type findingsHead struct {
	Format  int    `json:"format"`
	Program string `json:"program"` // what checks: see fingerprint
	Digest  string `json:"digest"`  // of the policy
	Names   bool   `json:"names"`
	Sum     string `json:"sum"` // SHA-256 of what follows
}

const findingsFormat = 1

// finding is of a repository whose policy did not simply pass.
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

// Findings returns the results of the checks of each repository's policy, for [Resume] in
// the next process. It is nil if not everything was checked.
func (s *Set) Findings() []byte {
	list := []finding{}
	for _, u := range s.allUnits() {
		if u.pending {
			list = append(list, finding{Repository: u.repository, All: true, Pending: true})
			continue
		}
		result := u.now()
		if errs, ok := errors.AsType[Errors](result.failure); ok && u.isRepository() {
			_, tests := errors.AsType[TestsFailed](result.failure)
			list = append(list, finding{Repository: u.repository, All: true, Failure: errs, Tests: tests})
			continue
		}
		if !result.checked {
			return nil
		}
		if u.isRepository() && (result.all || len(result.reads)+len(result.warnings) > 0) {
			list = append(list, finding{Repository: u.repository, Reads: result.reads, All: result.all, Warnings: result.warnings})
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

// useFindings gives each repository the result in the findings, after the files were
// assigned to units.
func (l *loader) useFindings() error {
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
			u.checkResult = checkResult{all: true, failure: failure}
			continue
		}
		if f.Pending && u.failure == nil {
			u.checkResult, u.pending = checkResult{all: true}, true
			continue
		}
		u.checkResult = checkResult{checked: true, warnings: f.Warnings, reads: f.Reads, all: f.All, cached: new(cachedCheck), failure: u.failure}
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
		return nil, errors.New("the policy, the program or the bytes differ")
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

// fingerprint identifies the checks: the versions of this program and its libraries, the
// shape of the input, the builtins that a policy may call, and the shipped library.
// Findings of other checks are not used.
var fingerprint = sync.OnceValue(func() string {
	h := sha256.New()
	if build, ok := debug.ReadBuildInfo(); ok {
		fmt.Fprintln(h, build)
	}
	fmt.Fprintf(h, "%d %s %s\n", findingsFormat, schemaJSON, canonical.DeliverySchema)
	for _, b := range functions.Capabilities().Builtins {
		fmt.Fprintln(h, b.Name)
	}
	for _, f := range Library() {
		fmt.Fprintf(h, "%s %s\n", f.Path, sum(f.Content))
	}
	return hex.EncodeToString(h.Sum(nil))
})
