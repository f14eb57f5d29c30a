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
)

// loadLimits bound the requests that load a policy. A worker that has not answered
// in time, or shows no progress for quiet, is killed.
type loadLimits struct {
	documents, inspect, compile, quiet time.Duration
}

// limits are those of this program. Tests of this package shorten them.
var limits = loadLimits{documents: 2 * time.Minute, inspect: 20 * time.Second, compile: 10 * time.Second, quiet: testTimeout + time.Second}

// lastEnvironment numbers environments, so that a worker never takes one for another.
var lastEnvironment atomic.Uint64

// environment is what the policies of one loader have in common, as workers get it.
// A loader and those that it is copied to share one.
type environment struct {
	full, lean uint64 // the keys of the two forms: with the files below data/, and with what they hold
}

func newEnvironment() *environment {
	return &environment{full: lastEnvironment.Add(1), lean: lastEnvironment.Add(1)}
}

// message is the environment for a worker.
func (l *loader) environmentMessage(key uint64) []byte {
	m := environmentMessage{
		Key: key, Names: l.options.Names, Recorded: l.options.Recorded, Deadline: l.options.Deadline, Repositories: l.options.Repositories,
		Without: l.without,
	}
	for _, s := range l.library {
		m.Library = append(m.Library, wireFile{s.path, s.content})
	}
	if key == l.environment.full {
		for _, f := range l.documents {
			m.Documents = append(m.Documents, wireFile{f.Path, f.Content})
		}
	} else {
		m.Data = l.dataText
	}
	text, err := json.Marshal(m)
	if err != nil {
		return []byte{askEnvironment} // the worker reports that it cannot read it
	}
	return append([]byte{askEnvironment}, text...)
}

// do sends a request to a worker, and what the worker lacks for it.
func (l *loader) do(ctx context.Context, u *unit, key uint64, call *worker.Call) (reply []byte, err error) {
	request := call.Request
	call.Follow = func(reply []byte) []byte {
		if len(reply) != 1 {
			return nil
		}
		switch reply[0] {
		case replyNoEnvironment:
			return l.environmentMessage(key)
		case replyNoUnit:
			return unitMessage(askPrepare, key, u, unitRequest{})
		case replyInstalled:
			return request
		}
		return nil
	}
	reply, err = l.options.workers().Do(ctx, call)
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

func unitMessage(ask byte, key uint64, u *unit, r unitRequest) []byte {
	r.Environment = key
	if u != nil {
		r.Repository = u.repository
		for _, s := range u.sources {
			r.Sources = append(r.Sources, wireFile{s.path, s.content})
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		return []byte{ask}
	}
	return append([]byte{ask}, text...)
}

// ask sends a request about a unit and reads the reply into answer.
func (l *loader) ask(ctx context.Context, ask byte, key uint64, u *unit, r unitRequest, call worker.Call, answer any) error {
	call.Request = unitMessage(ask, key, u, r)
	call.MaxReply = maxReply
	if ask != askCompile { // a client may wait for that
		call.Class = l.checkClass(u)
	}
	if l.attempt > 0 && call.Class != worker.Interactive {
		call.Limit, call.Uncounted = min(call.Limit, l.attempt+4*l.documentsTime), true
	}
	call.Share = shareOf(u)
	reply, err := l.do(ctx, u, key, &call)
	if err != nil {
		return err
	}
	return readStrictly(reply, answer)
}

// checkClass is how urgent the checks and tests of a unit are: the organization's are
// not delayed by those of repositories, nor a first attempt by long checks.
func (l *loader) checkClass(u *unit) worker.Class {
	switch {
	case l.options.Background, l.attempt == fullCheck:
		return worker.Long
	case u == nil || !u.isRepository():
		return worker.Urgent
	}
	return worker.Background
}

// shareOf names the share of the workers that a unit has.
func shareOf(u *unit) string {
	if u == nil || !u.isRepository() {
		return "the organization"
	}
	return u.repository
}

// blameOf is what is quarantined for what a repository's policy does: exactly this
// text of it.
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

// faultOf gives a death the place in a unit's files and says what was being done.
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

// isDeath reports whether an error is that a policy has ended a worker.
func isDeath(err error) bool {
	_, ok := errors.AsType[*worker.Death](err)
	return ok
}

// placeOfDeath is the error of an evaluation that ended its worker, with the place
// where it did: it is evaluated once more with a tracer, which costs another worker.
func (l *loader) placeOfDeath(ctx context.Context, u *unit, key uint64, input []byte, deadline time.Duration, what string, err error) error {
	d, ok := errors.AsType[*worker.Death](err)
	if ok && d.Mark == 0 {
		var p placed
		again := l.ask(ctx, askPlace, key, u, unitRequest{Input: input, Deadline: deadline}, worker.Call{Limit: deadline, Uncounted: true}, &p)
		if d2, died := errors.AsType[*worker.Death](again); died {
			d.Mark = d2.Mark
		}
	}
	return faultOf(u, what, err)
}

// ErrAttempt reports that a check did not end within its limit. It has no outcome.
var ErrAttempt = errors.New("the check takes longer")

// fullCheck is the attempt of a check that has all the time of its limits.
const fullCheck = -1

// class is how urgent evaluations are.
func (l *loader) class() worker.Class {
	if l.options.Background {
		return worker.Background
	}
	return worker.Interactive
}
