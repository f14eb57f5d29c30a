package rego

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// loadLimits bound the requests that load a policy. A worker that exceeds one, or makes no
// progress for quiet, is killed.
type loadLimits struct {
	documents, inspect, compile, quiet time.Duration
}

// limits are those of this program. Tests of this package shorten them.
var limits = loadLimits{documents: 2 * time.Minute, inspect: 20 * time.Second, compile: 10 * time.Second, quiet: testTimeout + time.Second}

// ErrAttempt reports that a check did not end within its limit. It has no outcome.
var ErrAttempt = errors.New("the check takes longer")

// fullCheck is the attempt of a check without a limit of its own.
const fullCheck = -1

// lastEnvironment numbers environments, so that each has a key of its own in the workers.
var lastEnvironment atomic.Uint64

// environmentKeys name the environment of one revision in the workers: what its policies
// have in common. A loader and its copies share them.
type environmentKeys struct {
	full, lean uint64 // with the files below data/, and with the values that they hold
}

func newEnvironmentKeys() *environmentKeys {
	return &environmentKeys{full: lastEnvironment.Add(1), lean: lastEnvironment.Add(1)}
}

// client sends requests about one revision to workers, and the environment of the
// revision to a worker that lacks it.
type client struct {
	workers       Workers // nil: defaultWorkers
	background    bool    // see [Options.Background]
	environment   *environmentKeys
	attempt       time.Duration // the limit of a check that is repeated if it takes longer; 0: none; see fullCheck
	documentsTime time.Duration // the time that reading the documents took

	// The content of the environment.
	names, recorded bool
	webhooks        *WebhookNames // nil: not known
	repositoryNames []string      // full names of all repositories; nil: not known
	deadline        time.Duration
	library         []source
	documents       []policy.File
	dataText        []byte   // the values of the documents, as JSON
	without         []string // checks that are left out; set by tests of this package only
}

// environmentMessage is the request that installs the environment.
func (c *client) environmentMessage(key uint64) []byte {
	m := environmentMessage{
		Key: key, Names: c.names, Recorded: c.recorded, Deadline: c.deadline, Repositories: c.repositoryNames, Webhooks: c.webhooks, Without: c.without,
	}
	for _, s := range c.library {
		m.Library = append(m.Library, wireFile{s.path, s.content})
	}
	if key == c.environment.full {
		for _, f := range c.documents {
			m.Documents = append(m.Documents, wireFile{f.Path, f.Content})
		}
	} else {
		m.Data = c.dataText
	}
	text, err := json.Marshal(m)
	if err != nil {
		return []byte{requestEnvironment} // the worker reports that it cannot read it
	}
	return append([]byte{requestEnvironment}, text...)
}

func (c *client) pool() Workers {
	if c.workers != nil {
		return c.workers
	}
	return defaultWorkers()
}

// do sends a request to a worker, and what the worker lacks for it: the environment, or
// the unit.
func (c *client) do(ctx context.Context, u *unit, key uint64, call *worker.Call) (reply []byte, err error) {
	request := call.Request
	call.Follow = func(reply []byte) []byte {
		if len(reply) != 1 {
			return nil
		}
		switch reply[0] {
		case replyNoEnvironment:
			return c.environmentMessage(key)
		case replyNoUnit:
			return unitMessage(requestPrepare, key, u, unitRequest{})
		case replyInstalled:
			return request
		}
		return nil
	}
	reply, err = c.pool().Do(ctx, call)
	switch {
	case err != nil:
		return nil, err
	case len(reply) == 0:
		return nil, errWire
	case reply[0] == replyError:
		return nil, readError(reply[1:])
	case reply[0] != replyOK:
		return nil, errWire
	}
	return reply[1:], nil
}

func unitMessage(kind byte, key uint64, u *unit, r unitRequest) []byte {
	r.Environment = key
	if u != nil {
		r.Repository = u.repository
		for _, s := range u.sources {
			r.Sources = append(r.Sources, wireFile{s.path, s.content})
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return []byte{kind}
	}
	return append([]byte{kind}, text...)
}

// call sends a request about a unit and decodes the reply into result.
func (c *client) call(ctx context.Context, kind byte, key uint64, u *unit, r unitRequest, options worker.Call, result any) error {
	options.Request = unitMessage(kind, key, u, r)
	options.MaxReply = maxReply
	if kind != requestCompile { // a client may wait for that
		options.Class = c.checkClass(u)
	}
	if c.attempt > 0 && options.Class != worker.Interactive {
		options.Limit, options.Uncounted = min(options.Limit, c.attempt+4*c.documentsTime), true
	}
	options.Share = shareOf(u)
	reply, err := c.do(ctx, u, key, &options)
	if err != nil {
		return err
	}
	return readStrictly(reply, result)
}

// checkClass is the urgency of the checks and tests of a unit: repositories do not delay
// the organization, and long checks do not delay a first attempt.
func (c *client) checkClass(u *unit) worker.Class {
	switch {
	case c.background, c.attempt == fullCheck:
		return worker.Long
	case u == nil || !u.isRepository():
		return worker.Urgent
	}
	return worker.Background
}

// class is the urgency of evaluations.
func (c *client) class() worker.Class {
	if c.background {
		return worker.Background
	}
	return worker.Interactive
}

// shareOf names the share of the workers that a unit has.
func shareOf(u *unit) string {
	if u == nil || !u.isRepository() {
		return "the organization"
	}
	return u.repository
}

// blameOf identifies the text of a repository's policy, which is quarantined if it ends
// workers.
func blameOf(u *unit) string {
	h := sha256.New()
	for _, s := range u.sources {
		if !s.test {
			fmt.Fprintf(h, "%s\x00%d\x00", s.path, len(s.content))
			h.Write(s.content)
		}
	}
	return u.repository + "\x00" + string(h.Sum(nil))
}

// faultOf gives a worker's death the location in a unit's files, and the activity (what)
// that it interrupted.
func faultOf(u *unit, what string, err error) error {
	if q, ok := errors.AsType[*worker.Quarantined](err); ok {
		file, line := u.marked(q.Death.Mark)
		return &faultError{Error{File: file, Line: line, Column: 1, Message: fmt.Sprintf("%s: %s %v", unitName(u), what, q), Retry: q.Death.Retryable()}, err}
	}
	if d, ok := errors.AsType[*worker.Death](err); ok {
		file, line := u.marked(d.Mark)
		return &faultError{Error{File: file, Line: line, Column: 1, Message: fmt.Sprintf("%s: %s %v", unitName(u), what, d), Retry: d.Retryable()}, err}
	}
	return err
}

// faultError is an [Error] about a policy that ended a worker.
type faultError struct {
	fault Error
	cause error
}

func (e *faultError) Error() string   { return e.fault.Error() }
func (e *faultError) Unwrap() []error { return []error{e.fault, e.cause} }

// isDeath reports whether a policy ended its worker.
func isDeath(err error) bool {
	_, ok := errors.AsType[*worker.Death](err)
	return ok
}

// placeOfDeath is the error of an evaluation that ended its worker, with the location. If
// the location is not known, the policy is evaluated again with a tracer, which costs
// another worker, and for which the caller waits for a bounded time. A call that was refused
// because of an earlier death is not evaluated again.
func (c *client) placeOfDeath(ctx context.Context, u *unit, key uint64, input []byte, deadline time.Duration, what string, err error) error {
	d, ok := err.(*worker.Death) //nolint:errorlint // not *worker.Quarantined, which wraps the earlier death
	if !ok || d.Mark != 0 {
		return faultOf(u, what, err)
	}
	bounded, cancel := context.WithTimeout(ctx, 2*deadline+diagnosisWait)
	defer cancel()
	var p placeReply
	again := c.call(bounded, requestPlace, key, u, unitRequest{Input: input, Deadline: deadline}, worker.Call{Limit: deadline, Uncounted: true}, &p)
	located := *d
	if second, died := errors.AsType[*worker.Death](again); died {
		located.Mark = second.Mark
	}
	if w, ok := c.pool().(interface{ Diagnosed(key string, mark uint64) }); ok {
		w.Diagnosed(blameOf(u), located.Mark)
	}
	return faultOf(u, what, &located)
}

// diagnosisWait is how long a diagnosis waits for a worker.
const diagnosisWait = 5 * time.Second
