package evidence

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
)

var completenessSpec = sectionSpec{
	name: "completeness", title: "Completeness against Bitbucket's deployments", criteria: []string{"PI1.4", "CC7.2"},
	kinds: []audit.Kind{audit.KindReconciled, audit.KindDeploymentUnobserved},
	begin: func() section {
		return &completenessSection{names: map[string]string{}, asked: map[string]string{}, runs: map[[2]string]*foundRun{},
			repositories: map[string]*lookedAt{}, missing: map[[2]string]*recordFields{}}
	},
	text: `<p>A step that does not set <code>HTTPS_PROXY</code> is in no log. Bitbucket knows of every deployment, and the server compares its list with this log.</p>
{{if not .Reconciliations}}<p class="result damaged">Nothing was reconciled: since the beginning of the period no reconciliation is recorded.</p>
<p>Either no REST API of Bitbucket is configured (<code>identity.bitbucket[].api</code>), or reconciliation is switched off, or it never finished. <b>Whether deployments bypassed the proxy is not known.</b></p>
{{else}}<p>{{n .Reconciliations "reconciliation since" "reconciliations since"}} the beginning of the period are recorded. Of the deployments that began in the period {{.Deployments}} were found: {{.NotSeen}} did not use the proxy, {{.Unclear}} could not be classified, and {{.Pending}} were pending at the latest reconciliation.</p>
<p>Of {{.Listed}} repositories {{.Never}} were never read in full.{{if lt .Never .Listed}} Each of the others is covered from {{moment .From}} at the latest until {{moment .Until}} at least; the third table has each.{{end}}</p>
{{if .Changed}}<p class="result damaged">The findings of {{n .Changed "reconciliation does" "reconciliations do"}} not match the digests in their events: they were changed, removed or inserted, and are left out of the tables.</p>{{end}}
<p><b>What it means.</b> <code>not_seen</code>: no step of the deployment's pipeline used the proxy. This calls for a question and is not a verdict: a step that needs no network, or only hosts in <code>NO_PROXY</code>, is not seen either. <code>seen</code> says that the step used the proxy, not that it used it for everything. Steps that deploy nothing and deployments from before the log began are not checked. Bitbucket is the only source: an account that can delete a repository or an environment there can remove its deployments before they are found.</p>
<p><b>Basis.</b> Each deployment is shown as found by the latest reconciliation whose event this checkpoint covers. The event has the SHA-256 of the findings and <code>reconciliations.jsonl</code> has the rows, so that <code>evidence check</code> recomputes the digest and these tables. The class was determined at that time, from the log and Bitbucket as they were then. Deployments of the period's last hours are usually found after its checkpoint; a pack of a later checkpoint (<code>--size</code>) has them. The name of an environment is that of decisions of the period; without one, its UUID is shown.{{if .Facts.Repositories}} The tables are narrowed like the pack; <code>reconciliations.jsonl</code> is not, because the digests cover all rows.{{end}}</p>
{{end}}`,
}

// classes are those of audit.deployment_findings, with what they mean.
var classes = [][2]string{
	{"not_seen", "nothing of its pipeline is in this log"},
	{"pipeline_only", "another step of its pipeline is in this log, and the step that deployed is not"},
	{"unknown", "Bitbucket returned too little to classify it"},
	{"pending", "it had not finished, or was too recent to classify"},
	{"not_run", "its step never ran: nothing is missing"},
	{"seen", "its step is in this log"},
}

// lookedAt is what is known of the checks one repository.
type lookedAt struct {
	latest      *foundLook
	looks       int       // that Bitbucket answered in full
	at          time.Time // of the latest that was a check all
	from, until time.Time // what these cover; until zero: there was none
}

type completenessSection struct {
	startsUser
	Facts                                  *Facts
	Reconciliations, Changed               int
	Deployments, NotSeen, Unclear, Pending int
	Listed, Never                          int
	From, Until                            time.Time         // what every repository is covered for that was checked
	names                                  map[string]string // of environments, as decisions have them
	asked                                  map[string]string // repositories with decisions, by UUID
	runs                                   map[[2]string]*foundRun
	repositories                           map[string]*lookedAt
	missing                                map[[2]string]*recordFields // events of deployments that were not seen
	list                                   []*reconciled
}

func (c *completenessSection) decision(d *decided) {
	if d.isProbe() || d.RepositoryUUID == "" || len(c.names) > maxRows || len(c.asked) > maxRows {
		return
	}
	c.asked[d.RepositoryUUID] = d.who()
	if d.DeploymentUUID != "" {
		c.names[d.DeploymentUUID] = d.where()
	}
}

func (c *completenessSection) event(e *loggedEvent) {
	if e.Kind == string(audit.KindDeploymentUnobserved) {
		c.missing[[2]string{e.RepositoryUUID, e.Attributes["deployment_run_uuid"]}] = e.recordFields
	}
}

func (c *completenessSection) reconciled(r *reconciled, rows []foundRow) {
	c.Reconciliations++
	if !r.unchanged {
		c.Changed++
	}
	c.list = append(c.list, r)
	since := momentOf(r.Attributes["since"]) // zero for one that was interrupted
	for _, row := range rows {
		switch {
		case row.look != nil:
			c.look(row.look, since)
		case row.run != nil:
			at := [2]string{row.run.repositoryUUID, row.run.run}
			if before := c.runs[at]; before == nil || !row.run.found.Before(before.found) {
				c.runs[at] = row.run
			}
		}
	}
}

func (c *completenessSection) look(l *foundLook, since time.Time) {
	r := c.repositories[l.repositoryUUID]
	if r == nil {
		r = new(lookedAt)
		c.repositories[l.repositoryUUID] = r
	}
	if r.latest == nil || !l.at.Before(r.latest.at) {
		r.latest = l
	}
	if l.outcome != "gone" && l.outcome != "not_scanned" && l.at.After(r.at) {
		r.at = l.at
	}
	if l.until.IsZero() {
		return
	}
	r.looks++
	if l.until.After(r.until) {
		r.until = l.until
	}
	if !since.IsZero() && (r.from.IsZero() || since.Before(r.from)) {
		r.from = since
	}
}

func (c *completenessSection) finish(f *Facts) []Table {
	c.Facts = f
	missing, counts := c.deployments()
	byClass := Table{Name: "deployments", Title: "Deployments that began in the period, by class", Columns: []string{"class", "deployments", "means"}}
	for _, class := range classes {
		byClass.Rows = append(byClass.Rows, []string{class[0], strconv.Itoa(counts[class[0]]), class[1]})
	}
	return []Table{byClass, missing, c.looks(), c.runsOf()}
}

// deployments lists what was not seen or could not be told, and counts all.
func (c *completenessSection) deployments() (Table, map[string]int) {
	t := Table{
		Name: "deployments_missing", Title: "Deployments that were not seen, or whose class is unknown",
		Note: "Each that was not seen is an event of its own, once, since the time that the record has. One that turned out to have been seen afterwards is listed still.",
		Columns: []string{"class", "began", "repository", "environment", "build_number", "state", "completed", "on_record_since", "detail",
			"found", "repository_uuid", "deployment_uuid", "pipeline_uuid", "step_uuid", "deployment_run_uuid"},
		Extra: 6,
	}
	counts := map[string]int{}
	for at, run := range c.runs {
		event := c.missing[at]
		if !c.within(run.began()) || !c.chosen(at[0]) || run.before(event) {
			continue
		}
		counts[run.class]++
		class := run.class
		switch {
		case class == "not_seen" || class == "pipeline_only":
			c.NotSeen++
		case class == "unknown":
			c.Unclear++
		case event != nil:
			class += " (afterwards)"
		default:
			if class == "pending" {
				c.Pending++
			}
			continue
		}
		recorded, build := "", ""
		if event != nil {
			recorded = event.Time
		}
		if run.build > 0 {
			build = whole(run.build)
		}
		t.Rows = append(t.Rows, []string{class, stamp(run.began()), c.nameOf(at[0]), cmp.Or(c.names[run.deploymentUUID], run.deploymentUUID), build, run.state,
			stamp(run.completed), recorded, run.detail, stamp(run.found), at[0], run.deploymentUUID, run.pipelineUUID, run.stepUUID, run.run})
	}
	for _, n := range counts {
		c.Deployments += n
	}
	// An event whose finding is not there, or is not what it was, still says it.
	for at, e := range c.missing {
		a := e.Attributes
		began := cmp.Or(a["started_at"], a["completed_at"], e.Time)
		if run := c.runs[at]; run != nil && !run.before(e) || !c.within(momentOf(began)) || !c.chosen(at[0]) {
			continue
		}
		c.NotSeen++
		t.Rows = append(t.Rows, []string{a["class"] + " (by its event alone)", began, e.who(), cmp.Or(c.names[e.DeploymentUUID], e.DeploymentUUID), a["build_number"], a["state"],
			a["completed_at"], e.Time, a["detail"], "", at[0], e.DeploymentUUID, e.PipelineUUID, e.StepUUID, at[1]})
	}
	order := func(row []string) int {
		return slices.IndexFunc(classes, func(class [2]string) bool { return strings.Split(row[0], " ")[0] == class[0] })
	}
	sortRows(&t, 1, 2, 10, 14)
	slices.SortStableFunc(t.Rows, func(a, b []string) int { return cmp.Compare(order(a), order(b)) })
	return t, counts
}

// looks lists the repositories: up to when each was checked, and which never were.
func (c *completenessSection) looks() Table {
	t := Table{
		Name: "reconciled_repositories", Title: "Repositories that were scanned, and that were not",
		Note: "Every repository that Bitbucket listed, and those of the population that it did not. What covered from and until say is whole; outside of it a deployment may be missing here unseen.",
		Columns: []string{"repository", "scanned_at", "covered_from", "covered_until", "covers_the_period", "last_scanned_at", "latest_outcome", "detail", "scans",
			"repository_uuid"},
		Extra: 1,
	}
	for uuid, r := range c.repositories {
		if !c.chosen(uuid) {
			continue
		}
		covers := r.looks > 0 && !r.until.IsZero() && !r.from.IsZero() && !r.from.After(c.Facts.Period.From) && !r.until.Before(c.Facts.Period.To)
		looked := "yes"
		switch {
		case r.at.IsZero():
			looked = "NEVER"
		case r.looks == 0:
			looked = "NEVER in full"
		}
		c.cover(r)
		t.Rows = append(t.Rows, []string{c.nameOf(uuid), looked, stamp(r.from), stamp(r.until), yes(covers), stamp(r.at), r.latest.outcome, r.latest.detail, strconv.Itoa(r.looks), uuid})
	}
	for uuid, name := range c.asked {
		if c.repositories[uuid] == nil && c.Reconciliations > 0 {
			c.cover(new(lookedAt))
			t.Rows = append(t.Rows, []string{name, "NEVER: Bitbucket did not list it", "", "", yes(false), "", "", "", "0", uuid})
		}
	}
	sortRows(&t, 4, 0, 9) // false comes before true
	return t
}

func (c *completenessSection) cover(r *lookedAt) {
	c.Listed++
	if r.looks == 0 {
		c.Never++
		return
	}
	if r.from.After(c.From) {
		c.From = r.from
	}
	if c.Until.IsZero() || r.until.Before(c.Until) {
		c.Until = r.until
	}
}

// runsOf lists the reconciliations.
func (c *completenessSection) runsOf() Table {
	t := Table{Name: "reconciliations", Title: "Reconciliations", Note: "From the beginning of the period to the checkpoint.",
		Columns: []string{"time", "workspace", "outcome", "deployments_since", "until", "rows", "as_sealed", "message", "rows_unread", "reconciliation", "writer", "leaf", "writer_start"}, Extra: 5}
	for _, r := range c.list {
		a := r.Attributes
		t.Rows = append(t.Rows, []string{r.Time, cmp.Or(r.Workspace, r.WorkspaceUUID), a["outcome"], a["since"], a["until"], strconv.Itoa(r.rows), yes(r.unchanged),
			r.Message, strconv.Itoa(r.unread), r.id(), r.Writer, whole(r.leaf), c.starts.of(r.Writer, c.Facts)})
	}
	sortRows(&t, 0, 9, 11)
	return t
}

func (c *completenessSection) within(t time.Time) bool {
	return !t.Before(c.Facts.Period.From) && t.Before(c.Facts.Period.To)
}

func (c *completenessSection) chosen(repositoryUUID string) bool {
	return chosenBy(c.Facts.Repositories, &recordFields{RepositoryUUID: repositoryUUID, Repository: c.nameOf(repositoryUUID)})
}

// nameOf is a repository's name as Bitbucket listed it last, else as decisions have it.
func (c *completenessSection) nameOf(uuid string) string {
	if r := c.repositories[uuid]; r != nil && r.latest.repository != "" {
		return r.latest.repository
	}
	return cmp.Or(c.asked[uuid], uuid)
}
