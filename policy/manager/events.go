package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// probeError is an error of [rego.Engine.Prepare].
type probeError struct{ error }

func (e probeError) Unwrap() error { return e.error }

// unrecordedError is an error of the log: a revision cannot be kept in it.
type unrecordedError struct{ error }

func (e unrecordedError) Unwrap() error { return e.error }

func probed(err error) error {
	if err == nil {
		return nil
	}
	return probeError{err}
}

func kindOf(err error) RefusalKind {
	if r, ok := errors.AsType[*source.Refusal](err); ok {
		return RefusalKind(r.Kind)
	}
	if _, ok := errors.AsType[probeError](err); ok {
		return refusedProbe
	}
	if _, ok := errors.AsType[unrecordedError](err); ok {
		return refusedUnrecorded
	}
	if _, ok := errors.AsType[rego.TestsFailed](err); ok {
		return refusedTests
	}
	if _, ok := errors.AsType[rego.Errors](err); ok {
		return refusedLoad
	}
	return refusedUnknown
}

// AnnounceFirst records the first active revision and, where it is from the disk, why.
// Later events go to the same log. activated is called after the activation of each
// commit is recorded; nil: not.
func (p *Manager) AnnounceFirst(ctx context.Context, log Log, activated func()) error {
	p.audit, p.activated = log, activated
	if err := p.dropUnknown(ctx); err != nil {
		return err
	}
	if err := p.announce(ctx, p.good, nil); err != nil {
		return err
	}
	p.recordRejections(ctx)
	if p.fromDisk {
		p.count(kindOf(p.failure))
		p.recordRefusal(ctx, p.offered, kindOf(p.failure), p.failure)
	} else {
		p.keep(p.good)
	}
	p.announceExceptions(ctx)
	return nil
}

// announce stores a revision's content in the log and records its activation.
func (p *Manager) announce(ctx context.Context, set, previous *rego.Set) error {
	revision := set.Revision()
	if err := p.audit.PutPolicy(ctx, revision.Digest, set.Snapshot().Content()); err != nil {
		return err
	}
	attributes := []audit.Attribute{
		{Name: "source", Value: p.source.String()},
		{Name: "files", Value: strconv.Itoa(len(set.Snapshot().Files))},
		{Name: "warnings", Value: strconv.Itoa(len(set.Warnings()))},
	}
	before := p.before // of an earlier process, which its own event does not replace
	if previous != nil {
		before = previous.Revision().Commit
		attributes = append(attributes, audit.Attribute{Name: "replaces", Value: previous.Revision().Digest})
		if commit := previous.Revision().Commit; commit != "" {
			attributes = append(attributes, audit.Attribute{Name: "replaces_commit", Value: commit})
		}
	}
	now := time.Now()
	if p.fromDisk {
		attributes = append(attributes, audit.Attribute{Name: "from", Value: "disk"})
	}
	if at, again := p.history.before(revision.Digest); again {
		attributes = append(attributes, audit.Attribute{Name: "decided_before", Value: at.UTC().Format(time.RFC3339)})
	}
	if r, ok := p.source.(interface{ Rewound() bool }); ok && r.Rewound() {
		attributes = append(attributes, audit.Attribute{Name: "rewound", Value: "true"})
	}
	attributes = append(attributes, pendingAttributes(set)...)
	attributes = append(attributes, rejectedAttributes(set)...)
	attributes = append(attributes, p.provenance(ctx, revision.Commit)...)
	attributes = append(attributes, p.brought(ctx, before, revision.Commit)...)
	err := p.audit.Record(ctx, &audit.Event{
		Time: now, Kind: audit.KindPolicyLoaded,
		Revision: revision.Digest, Commit: revision.Commit, Attributes: attributes,
	})
	if err == nil {
		p.history.decides(revision.Digest, now)
		if p.activated != nil && revision.Commit != "" {
			p.activated()
		}
		p.log.Info("policy activated", "revision", revision.Digest, "commit", revision.Commit, "files", len(set.Snapshot().Files))
	}
	return err
}

// provenance returns the attributes of a commit's origin. Unknown origin does not prevent
// an activation: a required signature was verified when the source offered the commit.
func (p *Manager) provenance(ctx context.Context, commit string) []audit.Attribute {
	git, ok := p.source.(interface {
		Provenance(context.Context, string) (source.Provenance, error)
	})
	if !ok || commit == "" {
		return nil
	}
	known, err := git.Provenance(ctx, commit)
	if err != nil {
		p.log.Warn("read author and signer of the policy commit failed", "commit", commit, "error", err)
		return nil
	}
	attributes := []audit.Attribute{
		{Name: "author", Value: known.Author}, {Name: "committer", Value: known.Committer}, {Name: "subject", Value: known.Subject},
		{Name: "signature", Value: string(known.Signature)},
	}
	if !known.Authored.IsZero() {
		attributes = append(attributes, audit.Attribute{Name: "authored", Value: known.Authored.UTC().Format(time.RFC3339)})
	}
	if known.Signer != "" {
		attributes = append(attributes, audit.Attribute{Name: "signer", Value: known.Signer})
	}
	return attributes
}

// maxBrought bounds the commits in the event of an activation.
const maxBrought = 40

// brought returns the commits that came with an activation, so that the approval of
// each can be read.
func (p *Manager) brought(ctx context.Context, before, commit string) []audit.Attribute {
	git, ok := p.source.(interface {
		Brought(ctx context.Context, before, commit string, limit int) ([]string, bool, error)
	})
	if !ok || commit == "" {
		return nil
	}
	commits, more, err := git.Brought(ctx, before, commit, maxBrought)
	if err != nil {
		p.log.Warn("list commits of the policy revision failed", "commit", commit, "error", err)
		return []audit.Attribute{{Name: "commits", Value: commit}, {Name: "more_commits", Value: "true"}}
	}
	attributes := []audit.Attribute{{Name: "commits", Value: strings.Join(commits, " ")}}
	if more {
		attributes = append(attributes, audit.Attribute{Name: "more_commits", Value: "true"})
	}
	return attributes
}

// refuse records that a state of the source was rejected. The digest is empty if the state
// could not be read, and the commit if it is not known. Each state and fault is recorded
// once.
func (p *Manager) refuse(ctx context.Context, offered policy.Revision, err error) {
	if ctx.Err() != nil {
		return
	}
	if r, ok := errors.AsType[*source.Refusal](err); ok && offered.Commit == "" {
		offered.Commit = r.Commit
	}
	kind := kindOf(err)
	p.mu.Lock()
	again := p.failure != nil && p.offered == offered && (offered != policy.Revision{} || kindOf(p.failure) == kind)
	p.scheduleRetry(again)
	p.offered, p.failure = offered, err
	p.mu.Unlock()
	if again {
		return
	}
	p.count(kind)
	p.log.Error("policy rejected; keeping last good revision", "revision", p.good.Revision().Digest, "kind", string(kind), "commit", offered.Commit, "error", err)
	p.recordRefusal(ctx, offered, kind, err)
}

// notRecorded records that a good state of the source is not activated because the log
// does not accept it: its decisions could not be evaluated again. It is tried again at the
// next refresh, and reported once.
func (p *Manager) notRecorded(ctx context.Context, offered policy.Revision, err error) {
	if ctx.Err() != nil {
		return
	}
	err = unrecordedError{fmt.Errorf("it cannot be recorded, and is tried again: %w", err)}
	p.mu.Lock()
	again := p.failure != nil && kindOf(p.failure) == refusedUnrecorded && p.waiting == offered
	p.waiting, p.failure = offered, err
	p.mu.Unlock()
	p.count(refusedUnrecorded)
	if again {
		return
	}
	p.log.Error("policy rejected; keeping last good revision", "revision", p.good.Revision().Digest, "kind", string(refusedUnrecorded), "offered", offered.Digest, "commit", offered.Commit, "error", err)
	p.recordRefusal(ctx, offered, refusedUnrecorded, err)
}

// recordRefusal records a rejected state with all that is known of it: the commit, its
// author, and whether a listed key has signed it.
func (p *Manager) recordRefusal(ctx context.Context, offered policy.Revision, kind RefusalKind, err error) {
	attributes := []audit.Attribute{
		{Name: "kind", Value: string(kind)},
		{Name: "source", Value: p.source.String()},
		{Name: "decides", Value: p.good.Revision().Digest},
	}
	attributes = append(attributes, p.provenance(ctx, offered.Commit)...)
	e := &audit.Event{Time: time.Now(), Kind: audit.KindPolicyRejected, Revision: offered.Digest, Commit: offered.Commit, Message: err.Error(), Attributes: attributes}
	if recordErr := p.audit.Record(ctx, e); recordErr != nil {
		p.log.Error("rejection of the policy not recorded", "error", recordErr)
	}
}

func (p *Manager) count(kind RefusalKind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refused[kind]++
}
