package report

import (
	"cmp"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// byEarlier are the decisions about a repository that were made by one revision with
// the repository's rules of an earlier one.
type byEarlier struct{ repository, revision, commit, rules string }

// earlierRun counts them, and knows when they were made.
type earlierRun struct {
	tally
	first, last string
}

// noteEarlier counts a decision whose repository's rules were of an earlier revision.
func (c *policySection) noteEarlier(d *Decision) {
	if d.OwnRevision == "" {
		return
	}
	key := byEarlier{cmp.Or(d.Repository, d.RepositoryUUID), d.Revision, d.Commit, d.OwnRevision}
	if c.earlier == nil {
		c.earlier = map[byEarlier]*earlierRun{}
	}
	run := c.earlier[key]
	if run == nil {
		if len(c.earlier) >= pack.MaxRows {
			key = byEarlier{repository: "(others)"}
			run = c.earlier[key]
		}
		if run == nil {
			run = &earlierRun{first: d.Time}
			c.earlier[key] = run
		}
	}
	run.add(d)
	run.last = d.Time
}

func (c *policySection) earlierTable() pack.Table {
	t := pack.Table{Name: "repository_revisions", Title: "Decisions with a repository's rules of an earlier revision",
		Columns: []string{"repository", "first", "last", "allowed", "denied", "commit", "revision", "repository_revision"}, Extra: 2}
	for key, run := range c.earlier {
		t.Rows = append(t.Rows, []string{key.repository, run.first, run.last, whole(run.allowed), whole(run.denied), shortHash(key.commit), key.revision, key.rules})
	}
	sortRows(&t, 0, 1, 6, 7)
	return t
}

func (c *policySection) sparedTable() pack.Table {
	t := pack.Table{Name: "repository_policy_rejected", Title: "Rules of a repository that were rejected while the revision was activated",
		Columns: []string{"time", "hostname", "repository", "kind", "in_force", "commit", "self_declared_author", "commit_subject", "signer", "message",
			"full_commit", "revision", "repository_revision", "source", "instance"}, Extra: 5}
	for _, e := range c.spared {
		inForce, _, _ := strings.Cut(e.Attributes["in_force"], ":")
		if e.OwnRevision != "" {
			inForce = "earlier rules"
		}
		t.Rows = append(t.Rows, []string{e.Time, cmp.Or(c.hosts[e.Writer], e.Writer), cmp.Or(e.Repository, e.RepositoryUUID), e.Attributes["kind"], inForce,
			shortHash(e.Commit), e.Attributes["author"], e.Attributes["subject"], signerOf(e), e.Message,
			e.Commit, e.Revision, e.OwnRevision, e.Attributes["source"], e.Writer})
	}
	sortRows(&t, 0, 14, 2)
	return t
}
