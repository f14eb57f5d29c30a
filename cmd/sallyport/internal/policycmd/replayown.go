package policycmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/audit"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/policy/rego"
)

// maxRevisions is how many revisions are kept compiled for a replay as decided.
// Decisions lie in the log about in the order in which they were made.
const maxRevisions = 8

// replayOwn puts every decision to the policy that made it.
func replayOwn(c *cobra.Command, from historyFlags, repository string) (*replaySummary, error) {
	h, err := from.open(c)
	if err != nil {
		return nil, err
	}
	defer h.close()
	h.deliveries = true
	if h.database == nil {
		return nil, cli.Invalid(errors.New("--as-decided needs the policies that decided, and an export holds none: read the database"))
	}
	// The first connection is busy with the decisions.
	policies, err := auditreader.OpenHistory(c.Context(), h.url)
	if err != nil {
		return nil, cli.Invalid(err)
	}
	defer policies.Close()
	own := &ownPolicies{h: &history{database: policies}, sets: map[string]*ownPolicy{}, seen: map[string]bool{}}
	s, err := eachPart(c.Context(), h, func(ctx context.Context, p *replayPart, record []byte) error {
		return p.reproduce(ctx, h, own, record, repository)
	})
	if err != nil {
		return nil, cli.Invalid(err)
	}
	s.AsDecided, s.Revisions = true, len(own.seen)
	return s, nil
}

// ownPolicies are the policies that decided, as the log keeps them.
type ownPolicies struct {
	h *history

	mu    sync.Mutex
	sets  map[string]*ownPolicy
	order []string        // of sets, the one used last at the end
	seen  map[string]bool // every revision
}

type ownPolicy struct {
	once     sync.Once
	replayer *rego.Replayer
	err      error
}

// of returns the replayer that evaluates a decision.
func (o *ownPolicies) of(ctx context.Context, d *audit.Decided) (*rego.Replayer, error) {
	key := fmt.Sprintf("%s %t", d.Revision, hasNames(d.Input))
	if d.RepositoryRevision != "" {
		key += " " + d.RepositoryRevision + " " + repositoryOf(d)
	}
	o.mu.Lock()
	p := o.sets[key]
	if p == nil {
		p = &ownPolicy{}
		o.sets[key] = p
		if len(o.order) >= maxRevisions {
			delete(o.sets, o.order[0])
			o.order = o.order[1:]
		}
		o.seen[d.Revision] = true
	} else {
		o.order = slices.DeleteFunc(o.order, func(k string) bool { return k == key })
	}
	o.order = append(o.order, key)
	o.mu.Unlock()
	p.once.Do(func() {
		o.mu.Lock() // one connection
		set, err := o.h.decidedBy(ctx, d)
		o.mu.Unlock()
		if err != nil {
			p.err = err
			return
		}
		p.replayer = rego.NewReplayer(set)
	})
	return p.replayer, p.err
}

// reproduce puts one decision to the policy that made it. An error is one of
// reading the log.
func (p *replayPart) reproduce(ctx context.Context, h *history, own *ownPolicies, record []byte, repository string) error {
	d, ok, err := h.decided(record)
	if err != nil || !ok || repository != "" && repository != d.Repository && repository != d.RepositoryUUID {
		return err
	}
	if d.Input == nil {
		p.NotEvaluated++
		return nil
	}
	p.Decisions++
	then, _ := recordedOutcome(&d)
	if d.Revision == "" {
		p.Differ++
		p.note(&d, then, "no revision", "", errors.New("the decision does not name the policy that made it"))
		return nil
	}
	replayer, err := own.of(ctx, &d)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		p.Differ++
		p.Errors++
		p.note(&d, then, "error", "", err)
		return nil
	}
	now := evaluateAgain(ctx, replayer, &d)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	r := reproduction(&d, now.Decision, now.failure)
	if d.Kind == audit.KindWebhookReceived {
		r.compareRoutes(&d, now.routes)
	}
	if !r.Reproduced {
		p.Differ++
		p.note(&d, r.Then, r.Now, now.Rule, errors.New(r.Detail))
	}
	return nil
}
