package manager

import (
	"context"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/source"
)

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

// maxCommitsSince bounds the commits in the event of an activation.
const maxCommitsSince = 40

// commitsSince returns the commits that came with an activation, so that the approval of
// each can be read.
func (p *Manager) commitsSince(ctx context.Context, before, commit string) []audit.Attribute {
	git, ok := p.source.(interface {
		Brought(ctx context.Context, before, commit string, limit int) ([]string, bool, error)
	})
	if !ok || commit == "" {
		return nil
	}
	commits, more, err := git.Brought(ctx, before, commit, maxCommitsSince)
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
