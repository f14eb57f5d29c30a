package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/metrics"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/topdown"
	"github.com/open-policy-agent/opa/v1/topdown/builtins"
	"github.com/open-policy-agent/opa/v1/topdown/cache"

	"github.com/sallyport/sallyport/policy/rego/check"
	"github.com/sallyport/sallyport/policy/rego/functions"
	"github.com/sallyport/sallyport/policy/rego/reads"
)

// unitPrograms are the compiled parts of a unit; nil where it has no files of a domain.
type unitPrograms struct{ egress, deliveries *program }

// of returns the program of a domain, nil if there is none.
func (p *unitPrograms) of(d *domain) *program {
	switch {
	case p == nil:
		return nil
	case d == deliveries:
		return p.deliveries
	}
	return p.egress
}

// defines reports whether a program has a set; a nil one has none.
func (p *program) defines() bool { return p != nil && len(p.sets) > 0 }

// program is a compiled part of a unit. Safe for concurrent use.
type program struct {
	domain   *domain
	name     string
	compiler *ast.Compiler
	query    ast.Body
	sets     []string // those that the unit defines: the query's variables
	names    []string // the namePaths that its rules read
	store    storage.Store
	txn      storage.Transaction
	values   cache.InterQueryValueCache
	places   map[string]*ast.Location // of entries, see entryPlaces
	reads    *reads.Rules             // what its rules may read
	notes    bool                     // it may call a function of the library that records notes
}

// results are the members of each set, by the set's name.
type results map[string][]entry

// newProgram makes the query for the sets that the modules define. A partial set with a
// rule always has a value, so an undefined result is always an error; a set without a rule
// is empty and not queried. The modules are as the compiler resolved them, without the
// library's.
func newProgram(u *part, c *ast.Compiler, modules map[string]*ast.Module, store storage.Store) (*program, error) {
	p := &program{domain: u.domain, name: unitName(u.unit), compiler: c, store: store, places: entryPlaces(u.domain, modules)}
	defined := map[string]bool{}
	for _, m := range modules {
		if !m.Package.Path.Equal(u.pkg()) {
			continue
		}
		for _, rule := range m.Rules {
			defined[check.RuleName(rule)] = true
		}
	}
	var body ast.Body
	for _, set := range u.sets() {
		if defined[set] {
			p.sets = append(p.sets, set)
			body.Append(ast.Equality.Expr(ast.VarTerm(set), ast.NewTerm(u.pkg().Append(ast.StringTerm(set)))))
		}
	}
	if len(p.sets) == 0 {
		return p, nil
	}
	functions.InlineCalls(c)
	compiled, err := c.QueryCompiler().Compile(body)
	if err != nil {
		return nil, err
	}
	p.query = compiled
	p.reads, p.notes = reads.OfModules(c.Modules), functions.NotesTaken(c.Modules)
	// The types of all builtins are half of a program's memory. An evaluation needs them
	// only for the keyword with.
	if !hasWith(c.Modules) {
		c.TypeEnv = nil
	}
	p.names = namesRead(u.domain, modules)
	// Nothing writes to the store, so one transaction serves every evaluation.
	if p.txn, err = store.NewTransaction(context.Background()); err != nil {
		return nil, err
	}
	p.values = functions.NewPatternCache()
	return p, nil
}

func hasWith(modules map[string]*ast.Module) bool {
	found := false
	for _, m := range modules {
		ast.WalkWiths(m, func(*ast.With) bool {
			found = true
			return true
		})
	}
	return found
}

// namesRead lists the names that modules read, or may read because a part of the input
// that holds them is passed on as a whole.
func namesRead(d *domain, modules map[string]*ast.Module) []string {
	var names []string
	for _, m := range modules {
		for _, rule := range m.Rules {
			for _, r := range readsOf(rule) {
				if r.root != "input" {
					continue
				}
				for _, name := range d.names {
					whole := strings.HasPrefix(name+".", strings.Join(append(r.path, ""), "."))
					if (whole || covers(r.path, name)) && !slices.Contains(names, name) {
						names = append(names, name)
					}
				}
			}
		}
	}
	slices.Sort(names)
	return names
}

// evaluate evaluates the program. It returns within the deadline, plus at most one call of
// a builtin, and turns a panic into an error.
func (p *program) evaluate(ctx context.Context, in *evalInput, deadline time.Duration) (r results, err error) {
	if len(p.sets) == 0 {
		return nil, nil
	}
	if p.notes {
		var notes *functions.Notes
		ctx, notes = functions.TakeNotes(ctx)
		defer func() {
			in.exceptions = append(in.exceptions, notes.Exceptions...)
			in.span.Limit(notes.Span)
		}()
	}
	err = recovered("evaluating "+p.name, func() error {
		r, err = p.run(ctx, in, deadline, nil)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// run evaluates once; tracer may be nil.
func (p *program) run(ctx context.Context, in *evalInput, deadline time.Duration, tracer topdown.QueryTracer) (results, error) {
	cancel := topdown.NewCancel()
	defer newWatchdog(deadline, cancel).stop()
	if ctx.Done() != nil {
		defer context.AfterFunc(ctx, cancel.Cancel)()
	}
	query := topdown.NewQuery(p.query).
		WithCompiler(p.compiler).
		WithStore(p.store).
		WithTransaction(p.txn).
		WithInput(in.value()).
		WithTime(in.time).
		WithCancel(cancel).
		WithStrictBuiltinErrors(true).
		WithBuiltins(functions.Native).
		WithMetrics(metrics.NoOp()). // Sallyport has its own
		WithInterQueryBuiltinValueCache(p.values)
	if tracer != nil {
		query = query.WithQueryTracer(tracer)
	}
	if in.everyRule {
		query = query.WithIndexing(false)
	}
	if p.reads.Clock {
		clock := builtins.NDBCache{}
		query = query.WithNDBuiltinCache(clock)
		defer func() {
			if len(clock) > 0 {
				in.span = functions.Never
			}
		}()
	}

	var r results
	resultCount := 0
	err := query.Iter(ctx, func(result topdown.QueryResult) error {
		resultCount++
		var err error
		r, err = p.read(result)
		return err
	})
	switch {
	case err != nil && topdown.IsCancel(err) && ctx.Err() != nil:
		return nil, fmt.Errorf("%s: the evaluation was canceled: %w", p.name, ctx.Err())
	case err != nil && topdown.IsCancel(err):
		return nil, fmt.Errorf("%s: %w %v", p.name, errDeadline, deadline)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", p.name, located(err))
	case resultCount != 1:
		return nil, fmt.Errorf("%s: the evaluation has %d results instead of one", p.name, resultCount)
	}
	return r, nil
}

// read returns the entries of a result. Anything but a set of entries is an error: it must
// not count as an empty set.
func (p *program) read(result topdown.QueryResult) (results, error) {
	r := make(results, len(p.sets))
	for _, name := range p.sets {
		term := result[ast.Var(name)]
		if term == nil {
			return nil, fmt.Errorf("%s is undefined", name)
		}
		set, ok := term.Value.(ast.Set)
		if !ok {
			return nil, fmt.Errorf("%s is not a set", name)
		}
		err := set.Iter(func(t *ast.Term) error {
			e, err := readEntry(name, t.Value)
			if err != nil {
				return withPlace(p.places, name, t.Value, err)
			}
			r[name] = append(r[name], e)
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}
