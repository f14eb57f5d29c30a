package report

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var approvalsSpec = sectionSpec{
	name: "approvals", title: "Approvals of policy changes", criteria: []string{"CC8.1"},
	kinds: []audit.Kind{audit.KindPolicyApproval},
	begin: func() section { return &approvalsSection{} },
	text: `<p>After the activation of a commit, the server queries Bitbucket for the pull request that merged the commit into the branch, and for its approvals. Activation does not wait for the result. Accounts are compared by UUID. An approval by an author of any part of the change does not count, as far as Bitbucket knows the commits' authors; neither does one that was withdrawn. If one activation brings several commits, the worst outcome counts.</p>
{{if .Commits}}<p>{{n .Commits "commit was" "commits were"}} activated in the period: {{.Approved}} with an approval by a non-author{{if .Not}}, <b>{{.Not}} without</b>{{end}}{{if .Open}}, {{.Open}} without a record: Bitbucket was not queried, or had not responded when the checkpoint was signed{{end}}.</p>
{{else}}<p>No commit was activated in the period.</p>
{{end}}<p>The source is Bitbucket at the time of the query. This report does not examine whether an approval preceded the last change of the pull request; Bitbucket can be configured to reset approvals.</p>`,
}

// approvalsSection joins activated commits with the pull requests in Bitbucket.
type approvalsSection struct {
	nothing
	Commits, Approved, Not, Open int

	activated map[string]*recorded.Event   // by commit: the first activation of the period
	approvals map[string][]*recorded.Event // by commit
}

func (c *approvalsSection) event(e *loggedEvent) {
	switch {
	case e.Kind == string(audit.KindPolicyApproval) && e.Commit != "":
		if c.approvals == nil {
			c.approvals = map[string][]*recorded.Event{}
		}
		if len(c.approvals) < pack.MaxRows {
			c.approvals[e.Commit] = append(c.approvals[e.Commit], e.Event)
		}
	case e.Kind == string(audit.KindPolicyLoaded) && e.Commit != "" && e.inPeriod:
		if c.activated == nil {
			c.activated = map[string]*recorded.Event{}
		}
		if before := c.activated[e.Commit]; before == nil || e.Time < before.Time {
			c.activated[e.Commit] = e.Event
		}
	}
}

// worst is the event about a commit that counts: the first that is not approved.
func worst(events []*recorded.Event) *recorded.Event {
	slices.SortStableFunc(events, func(a, b *recorded.Event) int {
		return cmp.Or(order(a.Attributes["outcome"] == "approved", b.Attributes["outcome"] == "approved"), strings.Compare(a.Time, b.Time))
	})
	if len(events) == 0 {
		return nil
	}
	return events[0]
}

func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// approver is a member of the attribute approvers.
type approver struct {
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	At     string `json:"at"`
	Author bool   `json:"author"`
}

// approversOf are those of an event: who counts, and who is an author.
func approversOf(e *recorded.Event) (others, authors Names) {
	var list []approver
	if json.Unmarshal([]byte(e.Attributes["approvers"]), &list) != nil {
		return nil, nil
	}
	for _, a := range list {
		shown := cmp.Or(a.Name, "(no name)")
		if a.At != "" {
			shown += " at " + a.At
		}
		shown += " {" + a.UUID + "}"
		if a.Author {
			authors.Add(shown)
		} else {
			others.Add(shown)
		}
	}
	return others, authors
}

func (c *approvalsSection) finish(*pack.Facts) []pack.Table {
	t := pack.Table{Name: "approvals", Title: "Activated commits and their approvals", Note: "The author of a commit is self-declared; those of the pull request and the approvers are accounts of Bitbucket.",
		Columns: []string{"first_activated", "commit", "self_declared_author", "outcome", "author_is_not_approver", "approved_by", "approved_by_authors", "pull_request", "title", "pull_request_author", "merged_by", "detail",
			"full_commit", "commits", "other_pull_requests", "destination", "repository", "recorded", "pull_request_author_uuid", "merged_by_uuid", "commits_of_unknown_authors", "changes_requested_by", "revision"}, Extra: 11}
	c.Commits = len(c.activated)
	for _, commit := range Sorted(c.activated) {
		l := c.activated[commit]
		e := worst(c.approvals[commit])
		if e == nil {
			c.Open++
			t.Rows = append(t.Rows, append([]string{l.Time, shortHash(commit), l.Attributes["author"], "not recorded", "not known"}, make([]string, len(t.Columns)-5)...))
			row := t.Rows[len(t.Rows)-1]
			row[12], row[len(row)-1] = commit, l.Revision
			continue
		}
		a := e.Attributes
		others, authors := approversOf(e)
		different := "no"
		switch {
		case a["outcome"] == "approved":
			different = "yes"
			c.Approved++
		case a["outcome"] == "unknown":
			different = "not known"
			c.Not++
		default:
			c.Not++
		}
		t.Rows = append(t.Rows, []string{l.Time, shortHash(commit), l.Attributes["author"], strings.ReplaceAll(a["outcome"], "_", " "), different, others.String(), authors.String(),
			a["pull_request"], a["title"], a["author"], a["merged_by"], e.Message,
			commit, a["commits"], a["other_pull_requests"], a["destination"], e.Repository, e.Time, a["author_uuid"], a["merged_by_uuid"], a["commits_of_unknown_authors"], a["changes_requested_by"], l.Revision})
	}
	sortRows(&t, 0, 12)
	return []pack.Table{t}
}
