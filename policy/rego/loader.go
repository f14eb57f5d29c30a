package rego

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"

	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/functions"
	"github.com/sallyport/sallyport/policy/rego/reads"
)

// The checks with a name. Tests of this package disable one each, and show the attack that
// it prevents.
const (
	checkReservedData  = "reserved data"
	checkPackages      = "packages"
	checkDefinitions   = "definitions"
	checkReads         = "reads"
	checkSets          = "sets"
	checkKeys          = "keys"
	checkIDs           = "ids"
	checkAbsent        = "absent fields"
	checkNames         = "names"
	checkCapabilities  = "capabilities"
	checkSchema        = "schema"
	checkEnds          = "termination"
	checkTestsOnlyTest = "tests define only tests"
	checkUnread        = "unread rules"
	checkUndefined     = "undefined rules"
	checkConditions    = "conditions"
	checkSingleNames   = "single names"
	checkOperands      = "operands"
	checkExceptions    = "exceptions"

	// Not checks, but the order of evaluation.
	organizationFirst = "the organization's half first"

	// Not checks, but what the cache of decisions depends on beside paths of the input.
	cacheAddress = "cache: addresses"
	cacheTime    = "cache: time"
	cacheAge     = "cache: age of workers' answers"
	cacheClock   = "cache: clocks of repositories"
	cacheErrors  = "cache: errors"
)

// loader is the state of one loading.
type loader struct {
	client
	snapshot *policy.Snapshot
	options  Options
	findings []byte // of a process before this one; nil: none
	unproven bool   // each repository's policy is checked and tested before it decides

	testsTime    time.Duration // for the tests of one unit
	organization *unit
	repositories []*unit

	libraryModules map[string]*ast.Module
	libraryReads   *reads.Rules
	written        *libraryParts   // the library as it is written
	native         *libraryParts   // and as it decides
	clocks         map[string]bool // names of functions whose results vary: see [reads.Clocks]
	data           ast.Object
	ended          Errors // the exceptions that have ended: warnings of Check
	places         *places
	known          map[string]bool // repositories by their full names; nil: not known
	store          storage.Store

	sameContext map[*loader]bool // whether another revision has the same documents and library

	inspected        int // units that were checked, and not known to be good
	errors, warnings Errors
}

func newLoader(snapshot *policy.Snapshot, options Options) *loader {
	if options.Deadline <= 0 {
		options.Deadline = DefaultDeadline
	}
	l := &loader{
		client: client{
			workers: options.Workers, background: options.Background, environment: newEnvironmentKeys(),
			names: options.Names, recorded: options.Recorded, repositoryNames: options.Repositories, webhooks: options.Webhooks, deadline: options.Deadline,
		},
		snapshot: snapshot, options: options, testsTime: testsTimeout, places: new(places),
	}
	if options.Repositories != nil {
		l.known = map[string]bool{}
		for _, name := range options.Repositories {
			l.known[name] = true
		}
	}
	return l
}

func (l *loader) runs(check string) bool { return !slices.Contains(l.without, check) }

func (l *loader) fail(e Error) { l.errors = append(l.errors, e) }

func (l *loader) warn(e Error) { l.warnings = append(l.warnings, e) }

// units are all units that have a file.
func (l *loader) units() []*unit {
	var units []*unit
	if len(l.organization.sources) > 0 {
		units = append(units, l.organization)
	}
	return append(units, l.repositories...)
}

func (l *loader) capabilities() *ast.Capabilities {
	if !l.runs(checkCapabilities) {
		return ast.CapabilitiesForThisVersion()
	}
	return functions.Capabilities()
}

// fork is a loader for one unit: it shares everything that is only read, and collects its
// own errors.
func (l *loader) fork() *loader {
	one := *l
	one.errors, one.warnings = nil, nil
	return &one
}

// each calls f for every number below n, several at a time, and stops early when ctx ends.
// Checking is bound by processors and memory, so at most GOMAXPROCS calls run at once.
func (l *loader) each(ctx context.Context, n int, f func(int)) error {
	var next atomic.Int64
	var group sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	if l.options.SpareProcessor {
		workers = max(1, workers-1)
	}
	for range min(n, workers) {
		group.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				f(i)
			}
		})
	}
	group.Wait()
	return ctx.Err()
}

// report adds findings of package check. In a recorded policy an error becomes a warning,
// because a decision is evaluated again by the policy that made it.
func (l *loader) report(findings []check.Finding) {
	for _, f := range findings {
		e := Error{File: f.File, Line: f.Line, Column: f.Column, Message: f.Message, Hint: f.Hint}
		if f.Warning || l.options.Recorded {
			l.warn(e)
		} else {
			l.fail(e)
		}
	}
}
