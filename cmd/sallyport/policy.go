package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	words "github.com/sallyport/sallyport/audit"
	audit "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// policyPoll is how often the policy directory is compared with what decides.
const policyPoll = 5 * time.Second

// policyHolder keeps the engine at the policy directory's latest good state.
type policyHolder struct {
	engine    *rego.Engine
	directory string
	options   rego.Options
	log       *slog.Logger
	audit     *audit.Log
	notify    *notifier

	turn    sync.Mutex // one refresh at a time
	mu      sync.Mutex
	offered string    // the digest of the latest state that was looked at
	loaded  time.Time // when the current revision began to decide
	failure error     // why the latest state does not decide; nil if it does
}

func newPolicyHolder(cfg *config.Config, log *slog.Logger) *policyHolder {
	// Names are in the input only where every workspace has them: a policy that
	// holds for one and silently not for another would be worse than none.
	names := true
	for _, w := range cfg.Identity.Bitbucket {
		names = names && w.API != nil
	}
	return &policyHolder{
		engine:    new(rego.Engine),
		directory: cfg.Policy.Directory,
		options:   rego.Options{Names: names, Deadline: cfg.Policy.EvaluationTimeout},
		log:       log,
	}
}

// loadPolicy makes the first policy decide; one that does not load ends the start.
func (s *server) loadPolicy(ctx context.Context) error {
	s.policy = newPolicyHolder(s.config, s.log.With("component", "policy"))
	s.policy.notify = s.notify
	snapshot, err := source.Directory(ctx, s.policy.directory)
	if err != nil {
		return err
	}
	set, err := rego.Load(ctx, snapshot, s.policy.options)
	if err != nil {
		return fmt.Errorf("the policy in %s does not load:\n%w", s.policy.directory, err)
	}
	for _, w := range set.Warnings() {
		s.policy.log.Warn("policy", "remark", w.Error())
	}
	s.policy.engine.Swap(set)
	s.policy.offered, s.policy.loaded = snapshot.Digest, time.Now()
	return nil
}

// announcePolicy keeps the first policy's content and records that it decides,
// before it does.
func (s *server) announcePolicy(ctx context.Context) error {
	s.policy.audit = s.audit
	return s.policy.announce(ctx, s.policy.engine.Current(), nil)
}

// follow looks for a new state of the directory from time to time, and at once
// when asked to, until ctx ends.
func (p *policyHolder) follow(ctx context.Context, reload <-chan os.Signal) {
	ticker := time.NewTicker(policyPoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-reload:
			p.log.Info("policy reload asked for")
			p.notify.reloading()
			p.refresh(ctx, true)
			p.notify.ready("serving")
		case <-ticker.C:
			p.refresh(ctx, false)
		}
	}
}

// refresh takes the directory's state if it is new and good. Otherwise the
// current revision goes on deciding, and the log, an event and /readyz say why.
// A state that was refused is not looked at again unless asked for.
func (p *policyHolder) refresh(ctx context.Context, asked bool) {
	p.turn.Lock()
	defer p.turn.Unlock()
	snapshot, err := source.Directory(ctx, p.directory)
	if err != nil {
		p.refuse(ctx, "", err)
		return
	}
	p.mu.Lock()
	known := snapshot.Digest == p.offered && (p.failure == nil || !asked)
	p.mu.Unlock()
	if known {
		return
	}
	set, err := rego.Load(ctx, snapshot, p.options)
	if err != nil {
		p.refuse(ctx, snapshot.Digest, err)
		return
	}
	for _, w := range set.Warnings() {
		p.log.Warn("policy", "remark", w.Error())
	}
	previous := p.engine.Current()
	if err := p.announce(ctx, set, previous); err != nil {
		// A revision whose content is not kept must not decide: its decisions
		// could not be evaluated again. It is tried again at the next turn.
		p.log.Error("new policy not taken: it cannot be recorded", "revision", set.Revision().Digest, "error", err)
		return
	}
	p.engine.Swap(set)
	p.mu.Lock()
	p.offered, p.loaded, p.failure = snapshot.Digest, time.Now(), nil
	p.mu.Unlock()
}

// announce keeps a revision's content and records that it begins to decide.
func (p *policyHolder) announce(ctx context.Context, set, previous *rego.Set) error {
	revision := set.Revision()
	if err := p.audit.PutPolicy(ctx, revision.Digest, set.Snapshot().Content()); err != nil {
		return err
	}
	attributes := []words.Attribute{
		{Name: "directory", Value: p.directory},
		{Name: "files", Value: strconv.Itoa(len(set.Snapshot().Files))},
		{Name: "warnings", Value: strconv.Itoa(len(set.Warnings()))},
	}
	if previous != nil {
		attributes = append(attributes, words.Attribute{Name: "replaces", Value: previous.Revision().Digest})
	}
	err := p.audit.Record(ctx, &words.Event{
		Time: time.Now(), Kind: words.KindPolicyLoaded,
		Revision: revision.Digest, Commit: revision.Commit, Attributes: attributes,
	})
	if err == nil {
		p.log.Info("policy decides", "revision", revision.Digest, "commit", revision.Commit, "files", len(set.Snapshot().Files))
	}
	return err
}

// refuse notes that a state of the directory was not taken; digest is empty
// where it could not even be read. It says so once for each state.
func (p *policyHolder) refuse(ctx context.Context, digest string, err error) {
	p.mu.Lock()
	again := p.failure != nil && p.offered == digest
	p.offered, p.failure = digest, err
	p.mu.Unlock()
	if again || ctx.Err() != nil {
		return
	}
	current := p.engine.Current().Revision()
	p.log.Error("policy not taken, the last good revision goes on deciding", "revision", current.Digest, "error", err)
	recordErr := p.audit.Record(ctx, &words.Event{
		Time: time.Now(), Kind: words.KindPolicyRefused, Revision: digest, Message: err.Error(),
		Attributes: []words.Attribute{{Name: "decides", Value: current.Digest}},
	})
	if recordErr != nil {
		p.log.Error("refusal of the policy not recorded", "error", recordErr)
	}
}

// ready is an error only where nothing decides. A new state that was refused is
// a detail: the instance goes on with the last good one.
func (p *policyHolder) ready() error {
	if p.engine.Current() == nil {
		return errors.New("no policy decides")
	}
	return nil
}

// detail is what /readyz tells of the policy.
func (p *policyHolder) detail() any {
	p.mu.Lock()
	defer p.mu.Unlock()
	d := map[string]string{"since": p.loaded.UTC().Format(time.RFC3339)}
	if set := p.engine.Current(); set != nil {
		d["revision"] = set.Revision().Digest
	}
	if p.failure != nil {
		d["not_taken"] = p.failure.Error()
	}
	return d
}
