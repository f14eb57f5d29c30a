package rego

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
	_ "time/tzdata" // a worker can open no file

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"

	"github.com/sallyport/sallyport/internal/worker"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/document"
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

// host is what a worker keeps: environments, and the programs that were compiled
// in them. One goroutine uses it.
type host struct {
	environments *lru[uint64, *hosted]
	work         int // calls since the memory was measured
}

// hosted is an environment in a worker: everything that the policies of one set
// have in common.
type hosted struct {
	loader   *loader // nil: it is not installed
	programs *lru[string, *hostedProgram]
}

type hostedProgram struct{ program *program }

func newHost() *host { return &host{environments: newLRU[uint64, *hosted](maxEnvironments)} }

// environment is what is installed under a key, or nil.
func (h *host) environment(key uint64) *hosted {
	e := h.environments.get(key, func() *hosted { return &hosted{} })
	if e.loader == nil {
		h.environments.forget(key, func(*hosted) bool { return true })
		return nil
	}
	return e
}

// program is what was compiled for a repository, or nil.
func (e *hosted) program(repository string) *program {
	p := e.programs.get(repository, func() *hostedProgram { return &hostedProgram{} })
	if p.program == nil {
		e.programs.forget(repository, func(*hostedProgram) bool { return true })
	}
	return p.program
}

// measureEvery is how many calls there are between two checks the memory.
const measureEvery = 64

// Retire drops what was compiled when half of the memory is in use, and reports
// whether that did not help. See [worker.Handler].
func (h *host) Retire() bool {
	if h.work++; h.work < measureEvery {
		return false
	}
	h.work = 0
	limit := debug.SetMemoryLimit(-1)
	if limit == math.MaxInt64 || liveBytes() < limit/2 {
		return false
	}
	h.environments = newLRU[uint64, *hosted](maxEnvironments)
	debug.FreeOSMemory()
	return liveBytes() > limit/4
}

func liveBytes() int64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	return int64(sample[0].Value.Uint64())
}

// Handle answers one request. See [worker.Handler].
func (h *host) Handle(request []byte) (reply []byte) {
	defer func() {
		if p := recover(); p != nil {
			reply = failure(fmt.Errorf("the policy worker panicked: %v", p))
		}
	}()
	if len(request) == 0 {
		return failure(errWire)
	}
	ask, rest := request[0], request[1:]
	if ask == askEvaluate {
		return h.evaluate(rest)
	}
	if ask == askEnvironment {
		return h.install(rest)
	}
	if ask == askFormat || ask == askDocument {
		return h.file(ask, rest)
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
	answer, err := e.answer(ask, &u)
	if err != nil {
		return failure(err)
	}
	if answer == nil {
		return []byte{replyInstalled}
	}
	return okReply(answer)
}

// okReply writes an answer within the bound of a reply.
func okReply(answer any) []byte {
	text, err := json.Marshal(answer)
	if err != nil {
		return failure(err)
	}
	if len(text) > maxReply-1 {
		return failure(fmt.Errorf("the answer has %d bytes, and %d are accepted", len(text), maxReply-1))
	}
	return append([]byte{replyOK}, text...)
}

func failure(err error) []byte {
	text, marshalErr := json.Marshal(toWire(err))
	if marshalErr != nil {
		text = []byte(`{"text":"an error that cannot be written"}`)
	}
	return append([]byte{replyError}, text...)
}

// install takes over an environment.
func (h *host) install(request []byte) []byte {
	var m environmentMessage
	if err := readStrictly(request, &m); err != nil {
		return failure(err)
	}
	l := newLoader(nil, Options{Names: m.Names, Deadline: m.Deadline, Recorded: m.Recorded, Repositories: m.Repositories})
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
	e := &hosted{loader: l, programs: newLRU[string, *hostedProgram](maxPrograms)}
	h.environments.forget(m.Key, func(*hosted) bool { return true })
	h.environments.get(m.Key, func() *hosted { return e })
	return []byte{replyInstalled}
}

// evaluate asks a repository's policy.
func (h *host) evaluate(request []byte) []byte {
	ask, err := readEvaluation(request)
	if err != nil {
		return failure(err)
	}
	e := h.environment(ask.environment)
	if e == nil {
		return []byte{replyNoEnvironment}
	}
	p := e.program(ask.repository)
	if p == nil {
		return []byte{replyNoUnit}
	}
	q, err := inputQuestion(ask.input, e.loader.options.Names)
	if err != nil {
		return failure(err)
	}
	q.clock = builtins.NDBCache{}
	r, err := p.evaluate(context.Background(), q, ask.deadline)
	if err != nil {
		return failure(err)
	}
	a := answered{results: r, readClock: len(q.clock) > 0}
	if err := a.bound(p.name); err != nil {
		return failure(err)
	}
	if a.excepted, err = exceptionTexts(q.excepted); err != nil {
		return failure(err)
	}
	reply := a.append(append(make([]byte, 0, 256), replyOK))
	if len(reply) > maxEvaluationReply {
		return failure(fmt.Errorf("%s: its answer has %d bytes, and %d are accepted", p.name, len(reply), maxEvaluationReply))
	}
	return reply
}

// exceptionTexts are exceptions as JSON, as many as a record names.
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

// answer does what a request asks of a unit. A nil answer is that it was done.
func (e *hosted) answer(ask byte, r *unitRequest) (any, error) {
	u := newUnit(r.Repository)
	for _, f := range r.Sources {
		u.sources = append(u.sources, source{path: f.Path, content: f.Content, test: isTestFile(f.Path)})
	}
	l := e.loader.alone()
	ctx := context.Background()
	switch ask {
	case askDocuments:
		return e.documents(ctx)
	case askInspect:
		e.readDocuments(ctx)
		l = e.loader.alone()
		l.only(u)
		l.inspect(u)
		l.places.forget()
		return &inspected{Errors: l.errors, Warnings: l.warnings, Reads: u.reads, All: u.all}, nil
	case askLint:
		e.readDocuments(ctx)
		l = e.loader.alone()
		l.only(u)
		l.lintUnits()
		return &inspected{Errors: l.errors, Warnings: l.warnings}, nil
	case askTest:
		e.readDocuments(ctx)
		l = e.loader.alone()
		t := &tested{}
		l.testsTime = r.Deadline
		var err error
		t.Covered, t.Lines, err = l.testUnit(ctx, u, &t.Report)
		return t, err
	case askCompile, askPrepare:
		p, err := e.compile(u)
		if err != nil || ask == askPrepare {
			return nil, err
		}
		return &compiled{Names: p.names, Volatile: volatileReads(p), Empty: len(p.sets) == 0}, nil
	}
	p := e.program(u.repository)
	if p == nil {
		var err error
		if p, err = e.compile(u); err != nil {
			return nil, err
		}
	}
	q, err := recordedQuestion(r.Input, l.options.Names)
	if err != nil {
		return nil, err
	}
	switch ask {
	case askExplain:
		return l.explainUnit(ctx, p, u, q)
	case askPlace:
		return e.place(ctx, p, u, q, r)
	}
	return nil, errors.New("a request that no policy worker knows")
}

// only makes a unit the loader's only one.
func (l *loader) only(u *unit) {
	l.organization, l.repositories = newUnit(""), nil
	if u.isRepository() {
		l.repositories = []*unit{u}
	} else {
		l.organization = u
	}
}

// readDocuments reads an environment's documents where it has no data yet. What is
// wrong with them was reported before.
func (e *hosted) readDocuments(ctx context.Context) {
	if e.loader.store == nil {
		one := e.loader.alone()
		e.loader.data = one.readDocuments(ctx)
		e.loader.store = inmem.NewFromASTObject(e.loader.data)
	}
}

func (e *hosted) documents(ctx context.Context) (any, error) {
	l := e.loader.alone()
	defer l.places.forget()
	l.data = l.readDocuments(ctx)
	if l.runs(checkExceptions) {
		l.report(check.Exceptions(&check.Unit{Documents: l.documentView(), Repositories: l.known}))
	}
	value, err := ast.JSON(l.data)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return nil, err
	}
	return &readData{Errors: l.errors, Warnings: l.warnings, Ended: l.endedExceptions(time.Now()), Data: text}, nil
}

func (e *hosted) compile(u *unit) (*program, error) {
	p, err := e.loader.compileUnit(u)
	if err != nil {
		return nil, err
	}
	e.programs.forget(u.repository, func(*hostedProgram) bool { return true })
	e.programs.get(u.repository, func() *hostedProgram { return &hostedProgram{p} })
	return p, nil
}

// place evaluates with a tracer, and returns where the evaluation is when its time
// is over. If it ends its worker, the mark says where.
func (e *hosted) place(ctx context.Context, p *program, u *unit, q *question, r *unitRequest) (any, error) {
	tracer := &lastPlace{library: e.loader.libraryModules}
	_, err := p.run(ctx, q, r.Deadline, newMarkTracer(u, tracer))
	if err == nil || tracer.at == nil {
		return &placed{}, nil
	}
	return &placed{File: tracer.at.File, Line: tracer.at.Row, Column: tracer.at.Col}, nil
}

// file answers a request about one file, in a worker.
func (h *host) file(ask byte, request []byte) []byte {
	var f wireFile
	if err := readStrictly(request, &f); err != nil {
		return failure(err)
	}
	h.work += measureEvery / 4
	var a fileAnswer
	var err error
	if ask == askFormat {
		a.Content, err = formatFile(f.Path, f.Content)
	} else {
		a.Content, err = document.JSON(f.Content)
	}
	if fault, ok := errors.AsType[*document.Error](err); ok {
		err = Errors{documentError(f.Path, fault)}
	}
	if errs, ok := errors.AsType[Errors](err); ok {
		a, err = fileAnswer{Errors: errs}, nil
	}
	if err != nil {
		return failure(err)
	}
	return okReply(&a)
}

// fileAnswer is the reply to [askFormat] and [askDocument].
type fileAnswer struct {
	Content []byte `json:"content,omitempty"`
	Errors  Errors `json:"errors,omitempty"`
}

// explainUnit explains in a worker.
func (l *loader) explainUnit(ctx context.Context, p *program, u *unit, q *question) (*explainedUnit, error) {
	r, rules, err := l.explain(ctx, p, u, q)
	if err != nil {
		return nil, err
	}
	a := answered{results: r}
	if err := a.bound(p.name); err != nil {
		return nil, err
	}
	return &explainedUnit{Rules: rules, Answer: a.append(nil)}, nil
}
