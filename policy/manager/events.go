package manager

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego"
	"github.com/sallyport/sallyport/policy/source"
)

// RecordFirst records the first active revision and, where it is from the disk, why.
// Later events go to the same log. activated is called after the activation of each
// commit is recorded; nil: not.
func (p *Manager) RecordFirst(ctx context.Context, log Log, activated func()) error {
	p.audit, p.activated = log, activated
	if err := p.dropUnknown(ctx); err != nil {
		return err
	}
	if err := p.recordActivation(ctx, p.lastGood, nil); err != nil {
		return err
	}
	p.recordRejections(ctx)
	if p.fromDisk {
		p.countRejection(kindOf(p.failure))
		p.recordRejectedRevision(ctx, p.offered, kindOf(p.failure), p.failure)
	} else {
		p.keep(p.lastGood)
	}
	p.recordExpiring(ctx)
	return nil
}

// announce stores a revision's content in the log and records its activation.
func (p *Manager) recordActivation(ctx context.Context, set, previous *rego.Set) error {
	revision := set.Revision()
	if err := p.audit.PutPolicy(ctx, revision.Digest, set.Snapshot().Content()); err != nil {
		return err
	}
	attributes := []audit.Attribute{
		{Name: "source", Value: p.source.String()},
		{Name: "files", Value: strconv.Itoa(len(set.Snapshot().Files))},
		{Name: "warnings", Value: strconv.Itoa(len(set.Warnings()))},
	}
	before := p.previousCommit // of an earlier process, which its own event does not replace
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
	if at, again := p.history.activatedAt(revision.Digest); again {
		attributes = append(attributes, audit.Attribute{Name: "decided_before", Value: at.UTC().Format(time.RFC3339)})
	}
	if r, ok := p.source.(interface{ Rewound() bool }); ok && r.Rewound() {
		attributes = append(attributes, audit.Attribute{Name: "rewound", Value: "true"})
	}
	attributes = append(attributes, pendingAttributes(set)...)
	attributes = append(attributes, rejectedAttributes(set)...)
	attributes = append(attributes, p.provenance(ctx, revision.Commit)...)
	attributes = append(attributes, p.commitsSince(ctx, before, revision.Commit)...)
	err := p.audit.Record(ctx, &audit.Event{
		Time: now, Kind: audit.KindPolicyLoaded,
		Revision: revision.Digest, Commit: revision.Commit, Attributes: attributes,
	})
	if err == nil {
		p.history.add(revision.Digest, now)
		if p.activated != nil && revision.Commit != "" {
			p.activated()
		}
		p.log.Info("policy activated", "revision", revision.Digest, "commit", revision.Commit, "files", len(set.Snapshot().Files))
	}
	return err
}

// rejectRevision records that a state of the source was rejected. The digest is empty if the state
// could not be read, and the commit if it is not known. Each state and fault is recorded
// once.
func (p *Manager) rejectRevision(ctx context.Context, offered policy.Revision, err error) {
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
	p.countRejection(kind)
	p.log.Error("policy rejected; keeping last good revision", "revision", p.lastGood.Revision().Digest, "kind", string(kind), "commit", offered.Commit, "error", err)
	p.recordRejectedRevision(ctx, offered, kind, err)
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
	again := p.failure != nil && kindOf(p.failure) == rejectedUnrecorded && p.unrecordedRevision == offered
	p.unrecordedRevision, p.failure = offered, err
	p.mu.Unlock()
	p.countRejection(rejectedUnrecorded)
	if again {
		return
	}
	p.log.Error("policy rejected; keeping last good revision", "revision", p.lastGood.Revision().Digest, "kind", string(rejectedUnrecorded), "offered", offered.Digest, "commit", offered.Commit, "error", err)
	p.recordRejectedRevision(ctx, offered, rejectedUnrecorded, err)
}

// recordRejectedRevision records a rejected state with all that is known of it: the commit, its
// author, and whether a listed key has signed it.
func (p *Manager) recordRejectedRevision(ctx context.Context, offered policy.Revision, kind RejectionKind, err error) {
	attributes := []audit.Attribute{
		{Name: "kind", Value: string(kind)},
		{Name: "source", Value: p.source.String()},
		{Name: "decides", Value: p.lastGood.Revision().Digest},
	}
	attributes = append(attributes, p.provenance(ctx, offered.Commit)...)
	e := &audit.Event{Time: time.Now(), Kind: audit.KindPolicyRejected, Revision: offered.Digest, Commit: offered.Commit, Message: err.Error(), Attributes: attributes}
	if recordErr := p.audit.Record(ctx, e); recordErr != nil {
		p.log.Error("rejection of the policy not recorded", "error", recordErr)
	}
}

func (p *Manager) countRejection(kind RejectionKind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rejectionCounts[kind]++
}
