package rego

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"runtime/debug"
	"runtime/metrics"
	_ "time/tzdata" // a worker can open no file

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
)

// ServeWorker serves as a worker for policies, and does not return, if this process
// was started as one. A program that loads policies calls it first of all: see
// [worker.Main].
func ServeWorker() {
	worker.Main(func() worker.Handler { return newHost() })
}

// maxEnvironments bounds the environments of a worker: those of the active
// revision, of the one before it, of a candidate and of one that is checked.
const maxEnvironments = 6

// host is the state of a worker: environments, and the programs compiled in them. One
// goroutine uses it.
type host struct {
	environments *lru[uint64, *hostedEnvironment]
	work         int // calls since the memory was measured
}

// hostedEnvironment is an environment in a worker: what the policies of one set have in
// common.
type hostedEnvironment struct {
	loader   *loader // nil: it is not installed
	programs *lru[string, *hostedProgram]
}

type hostedProgram struct{ programs *unitPrograms }

func newHost() *host { return &host{environments: newLRU[uint64, *hostedEnvironment](maxEnvironments)} }

// environment returns the environment that is installed under a key, or nil.
func (h *host) environment(key uint64) *hostedEnvironment {
	e := h.environments.get(key, func() *hostedEnvironment { return &hostedEnvironment{} })
	if e.loader == nil {
		h.environments.forget(key, func(*hostedEnvironment) bool { return true })
		return nil
	}
	return e
}

// compiled returns the compiled policy of a repository, or nil.
func (e *hostedEnvironment) compiled(repository string) *unitPrograms {
	p := e.programs.get(repository, func() *hostedProgram { return &hostedProgram{} })
	if p.programs == nil {
		e.programs.forget(repository, func(*hostedProgram) bool { return true })
	}
	return p.programs
}

// measureEvery is the number of calls between two measurements of the memory.
const measureEvery = 64

// Retire drops compiled programs when half of the memory is in use, and reports whether
// that did not help. See [worker.Handler].
func (h *host) Retire() bool {
	if h.work++; h.work < measureEvery {
		return false
	}
	h.work = 0
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 || liveBytes() < limit/2 {
		return false
	}
	h.environments = newLRU[uint64, *hostedEnvironment](maxEnvironments)
	debug.FreeOSMemory()
	return liveBytes() > limit/4
}

func liveBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// Handle processes one request and returns the reply. See [worker.Handler].
func (h *host) Handle(request []byte) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			reply = failure(fmt.Errorf("the policy worker panicked: %v", p))
		}
	}()
	if len(request) == 0 {
		return failure(errWire)
	}
	kind, rest := request[0], request[1:]
	if kind == requestEvaluate {
		return h.evaluate(rest)
	}
	if kind == requestEnvironment {
		return h.install(rest)
	}
	if kind == requestFormat || kind == requestDocument {
		return h.file(kind, rest)
	}
	var u unitRequest
	if err := readStrictly(rest, &u); err != nil {
		return failure(err)
	}
	e := h.environment(u.Environment)
	if e == nil {
		return []byte{replyNoEnvironment}
	}
	h.work += measureEvery / 4
	answer, err := e.execute(kind, &u)
	if err != nil {
		return failure(err)
	}
	if answer == nil {
		return []byte{replyInstalled}
	}
	return okReply(answer)
}

// okReply encodes a reply within its bound.
func okReply(result any) []byte {
	text, err := json.Marshal(result)
	if err != nil {
		return failure(err)
	}
	if len(text) > maxReply-1 {
		return failure(fmt.Errorf("the reply has %d bytes, and %d are accepted", len(text), maxReply-1))
	}
	return append([]byte{replyOK}, text...)
}

func failure(err error) []byte {
	text, marshalErr := json.Marshal(toWire(err))
	if marshalErr != nil {
		text = []byte(`{"text":"an error that cannot be encoded"}`)
	}
	return append([]byte{replyError}, text...)
}

// install stores an environment.
func (h *host) install(request []byte) []byte {
	var m environmentMessage
	if err := readStrictly(request, &m); err != nil {
		return failure(err)
	}
	l := newLoader(nil, Options{Names: m.Names, Deadline: m.Deadline, Recorded: m.Recorded, Repositories: m.Repositories, Webhooks: m.Webhooks})
	l.without = m.Without
	for _, f := range m.Library {
		l.library = append(l.library, source{path: f.Path, content: f.Content})
	}
	for _, f := range m.Documents {
		l.documents = append(l.documents, policy.File{Path: f.Path, Content: f.Content})
	}
	if err := l.loadLibrary(); err != nil {
		return failure(err)
	}
	if m.Data != nil {
		data, err := dataOf(m.Data)
		if err != nil {
			return failure(err)
		}
		l.data = data
		l.store = inmem.NewFromASTObject(l.data)
	}
	e := &hostedEnvironment{loader: l, programs: newLRU[string, *hostedProgram](maxPrograms)}
	h.environments.forget(m.Key, func(*hostedEnvironment) bool { return true })
	h.environments.get(m.Key, func() *hostedEnvironment { return e })
	return []byte{replyInstalled}
}

// evaluate evaluates an input by a repository's policy.
func (h *host) evaluate(request []byte) []byte {
	evaluation, err := readEvaluation(request)
	if err != nil {
		return failure(err)
	}
	e := h.environment(evaluation.environment)
	if e == nil {
		return []byte{replyNoEnvironment}
	}
	programs := e.compiled(evaluation.repository)
	if programs == nil {
		return []byte{replyNoUnit}
	}
	in, err := readInput(evaluation.input, e.loader.options.Names)
	if err != nil {
		return failure(err)
	}
	p := programs.of(in.domain)
	if !p.defines() {
		return (&evaluationReply{}).append([]byte{replyOK})
	}
	r, err := p.evaluate(context.Background(), in, evaluation.deadline)
	if err != nil {
		return failure(err)
	}
	a := evaluationReply{results: r, readClock: !in.span.IsAlways()}
	if err := a.bound(p.name); err != nil {
		return failure(err)
	}
	if a.excepted, err = exceptionTexts(in.exceptions); err != nil {
		return failure(err)
	}
	reply := a.append(append(make([]byte, 0, 256), replyOK))
	if len(reply) > maxEvaluationReply {
		return failure(fmt.Errorf("%s: its result has %d bytes, and %d are accepted", p.name, len(reply), maxEvaluationReply))
	}
	return reply
}

// exceptionTexts are exceptions as JSON, at most as many as the record of a decision
// names.
func exceptionTexts(terms []*ast.Term) (texts [][]byte, err error) {
	for _, t := range terms {
		if len(texts) == maxApplied {
			break
		}
		value, err := ast.JSON(t.Value)
		if err != nil {
			return nil, fmt.Errorf("an exception: %w", err)
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("an exception: %w", err)
		}
		if len(text) <= maxEntriesText/maxApplied {
			texts = append(texts, text)
		}
	}
	return texts, nil
}
