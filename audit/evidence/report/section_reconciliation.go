package report

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var reconciliationSpec = sectionSpec{
	name: "reconciliation", title: "Reconciliation with Bitbucket's deployments", criteria: []string{"PI1.4", "CC7.2"},
	kinds: []audit.Kind{audit.KindReconciled, audit.KindDeploymentUnobserved},
	begin: func() section {
		return &reconciliationSection{names: map[string]string{}, decided: map[string]string{}, runs: map[[2]string]*foundRun{},
			repositories: map[string]*scannedRepository{}, missing: map[[2]string]*recorded.Event{}}
	},
	text: `<p>A step that does not use the proxy leaves no trace in this log. Bitbucket lists every deployment, and the server compares that list with this log.</p>
{{if not .Reconciliations}}<p class="result damaged">Since the beginning of the period no reconciliation is recorded.</p>
<p>Either no REST API of Bitbucket is configured (<code>identity.bitbucket[].api</code>), or reconciliation is disabled, or it never finished. <b>Whether deployments bypassed the proxy is not known.</b></p>
{{else}}<p>{{n .Reconciliations "reconciliation since" "reconciliations since"}} the beginning of the period are recorded. Of the deployments that began in the period {{.Deployments}} were found: {{.Unobserved}} did not use the proxy, {{.Unclear}} could not be classified, and {{.Pending}} were pending at the latest reconciliation.</p>
<p>Of {{.Listed}} repositories {{.Never}} were never read in full.{{if lt .Never .Listed}} Each of the others is covered from {{moment .From}} at the latest until {{moment .Until}} at least; the third table has each.{{end}}</p>
{{if .Changed}}<p class="result damaged">The findings of {{n .Changed "reconciliation does" "reconciliations do"}} not match the digests in their events: they were changed, removed or inserted, and are left out of the tables.</p>{{end}}
<p><b>What it means.</b> <code>unobserved</code>: no step of the deployment's pipeline used the proxy. This has to be investigated, and does not prove a bypass: a step that uses no network, or only hosts in <code>NO_PROXY</code>, is unobserved too. <code>observed</code> means that the step used the proxy, not that it used it for everything. Steps that deploy nothing and deployments from before the log began are not checked. Bitbucket is the only source: an account that can delete a repository or an environment there can remove its deployments before they are found.</p>
<p><b>Basis.</b> Each deployment is shown as found by the latest reconciliation whose event this checkpoint covers. The event has the SHA-256 of the findings and <code>reconciliations.jsonl</code> has the rows, so that <code>evidence check</code> recomputes the digest and these tables. The class was determined at that time, from the log and Bitbucket as they were then. Deployments of the period's last hours are usually found after its checkpoint; a pack of a later checkpoint (<code>--size</code>) has them. The name of an environment is that of decisions of the period; without one, its UUID is shown.{{if .Facts.Repositories}} The tables are narrowed like the pack; <code>reconciliations.jsonl</code> is not, because the digests cover all rows.{{end}}</p>
{{end}}`,
}

// classes are those of audit.deployment_findings, with what they mean.
var classes = [][2]string{
	{"unobserved", "no step of its pipeline is in this log"},
	{"pipeline_only", "another step of its pipeline is in this log, and the step that deployed is not"},
	{"unknown", "Bitbucket returned too little to classify it"},
	{"pending", "it had not finished, or was too recent to classify"},
	{"not_run", "its step never ran: nothing is missing"},
	{"observed", "its step is in this log"},
}

// scannedRepository is what is known of the checks one repository.
type scannedRepository struct {
	latest      *foundScan
	scans       int       // that Bitbucket answered in full
	at          time.Time // of the latest that was a check all
	from, until time.Time // what these cover; until zero: there was none
}

type reconciliationSection struct {
	startsUser
	Facts                                     *pack.Facts
	Reconciliations, Changed                  int
	Deployments, Unobserved, Unclear, Pending int
	Listed, Never                             int
	From, Until                               time.Time         // what every repository is covered for that was checked
	names                                     map[string]string // of environments, as decisions have them
	decided                                   map[string]string // repositories with decisions, by UUID
	runs                                      map[[2]string]*foundRun
	repositories                              map[string]*scannedRepository
	missing                                   map[[2]string]*recorded.Event // events of unobserved deployments
	list                                      []*Reconciliation
}

func (c *reconciliationSection) decision(d *Decision) {
	if d.IsProbe() || d.RepositoryUUID == "" || len(c.names) > pack.MaxRows || len(c.decided) > pack.MaxRows {
		return
	}
	c.decided[d.RepositoryUUID] = d.Client()
	if d.DeploymentUUID != "" {
		c.names[d.DeploymentUUID] = d.DeploymentName()
	}
}

func (c *reconciliationSection) event(e *loggedEvent) {
	if e.Kind == string(audit.KindDeploymentUnobserved) {
		c.missing[[2]string{e.RepositoryUUID, e.Attributes["deployment_run_uuid"]}] = e.Event
	}
}

func (c *reconciliationSection) reconciled(r *Reconciliation, rows []foundRow) {
	c.Reconciliations++
	if !r.Unchanged {
		c.Changed++
	}
	c.list = append(c.list, r)
	since := pack.ParseTime(r.Attributes["since"]) // zero for one that was interrupted
	for _, row := range rows {
		switch {
		case row.scan != nil:
			c.scan(row.scan, since)
		case row.run != nil:
			at := [2]string{row.run.repositoryUUID, row.run.run}
			if before := c.runs[at]; before == nil || !row.run.found.Before(before.found) {
				c.runs[at] = row.run
			}
		}
	}
}

func (c *reconciliationSection) scan(l *foundScan, since time.Time) {
	r := c.repositories[l.repositoryUUID]
	if r == nil {
		r = new(scannedRepository)
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
	r.scans++
	if l.until.After(r.until) {
		r.until = l.until
	}
	if !since.IsZero() && (r.from.IsZero() || since.Before(r.from)) {
		r.from = since
	}
}

func (c *reconciliationSection) finish(f *pack.Facts) []pack.Table {
	c.Facts = f
	missing, counts := c.deployments()
	byClass := pack.Table{Name: "deployments", Title: "Deployments that began in the period, by class", Columns: []string{"class", "deployments", "means"}}
	for _, class := range classes {
		byClass.Rows = append(byClass.Rows, []string{class[0], strconv.Itoa(counts[class[0]]), class[1]})
	}
	return []pack.Table{byClass, missing, c.scans(), c.runsOf()}
}

// deployments lists the deployments without a step in the log or with an unknown class,
// and counts all by class.
func (c *reconciliationSection) deployments() (pack.Table, map[string]int) {
	t := pack.Table{
		Name: "deployments_missing", Title: "Deployments that are unobserved, or whose class is unknown",
		Note: "Each unobserved deployment has one event, recorded at the time in on_record_since. A deployment that a later reconciliation found as seen stays in the list.",
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
		if class := c.classify(run, event); class != "" {
			t.Rows = append(t.Rows, c.runRow(class, run, event))
		}
	}
	for _, n := range counts {
		c.Deployments += n
	}
	// The event counts where its finding is missing or was changed.
	for at, e := range c.missing {
		if run := c.runs[at]; run != nil && !run.before(e) || !c.within(pack.ParseTime(beganOf(e))) || !c.chosen(at[0]) {
			continue
		}
		c.Unobserved++
		t.Rows = append(t.Rows, c.eventRow(at, e))
	}
	order := func(row []string) int {
		return slices.IndexFunc(classes, func(class [2]string) bool { return strings.Split(row[0], " ")[0] == class[0] })
	}
	sortRows(&t, 1, 2, 10, 14)
	slices.SortStableFunc(t.Rows, func(a, b []string) int { return cmp.Compare(order(a), order(b)) })
	return t, counts
}

// classify counts a run, and returns its class as the table shows it; empty: the table
// does not list it.
func (c *reconciliationSection) classify(run *foundRun, event *recorded.Event) string {
	switch {
	case run.class == "unobserved" || run.class == "pipeline_only":
		c.Unobserved++
	case run.class == "unknown":
		c.Unclear++
	case event != nil:
		return run.class + " (afterwards)"
	case run.class == "pending":
		c.Pending++
		return ""
	default:
		return ""
	}
	return run.class
}

func (c *reconciliationSection) runRow(class string, run *foundRun, event *recorded.Event) []string {
	recorded, build := "", ""
	if event != nil {
		recorded = event.Time
	}
	if run.build > 0 {
		build = whole(run.build)
	}
	return []string{class, stamp(run.began()), c.nameOf(run.repositoryUUID), cmp.Or(c.names[run.deploymentUUID], run.deploymentUUID), build, run.state,
		stamp(run.completed), recorded, run.detail, stamp(run.found), run.repositoryUUID, run.deploymentUUID, run.pipelineUUID, run.stepUUID, run.run}
}

func (c *reconciliationSection) eventRow(at [2]string, e *recorded.Event) []string {
	a := e.Attributes
	return []string{a["class"] + " (by its event alone)", beganOf(e), e.Client(), cmp.Or(c.names[e.DeploymentUUID], e.DeploymentUUID), a["build_number"], a["state"],
		a["completed_at"], e.Time, a["detail"], "", at[0], e.DeploymentUUID, e.PipelineUUID, e.StepUUID, at[1]}
}

// beganOf is when the deployment of an event began, as far as the event has it.
func beganOf(e *recorded.Event) string {
	return cmp.Or(e.Attributes["started_at"], e.Attributes["completed_at"], e.Time)
}

// scans lists the repositories: up to when each was checked, and which never were.
func (c *reconciliationSection) scans() pack.Table {
	t := pack.Table{
		Name: "reconciled_repositories", Title: "Repositories that were scanned, and that were not",
		Note: "Every repository that Bitbucket listed, and those of the population that it did not. Between covered_from and covered_until the scans are complete. A deployment outside of these times may be missing from the tables.",
		Columns: []string{"repository", "scanned_at", "covered_from", "covered_until", "covers_the_period", "last_scanned_at", "latest_outcome", "detail", "scans",
			"repository_uuid"},
		Extra: 1,
	}
	for uuid, r := range c.repositories {
		if !c.chosen(uuid) {
			continue
		}
		covers := r.scans > 0 && !r.until.IsZero() && !r.from.IsZero() && !r.from.After(c.Facts.Period.From) && !r.until.Before(c.Facts.Period.To)
		scanned := "yes"
		switch {
		case r.at.IsZero():
			scanned = "NEVER"
		case r.scans == 0:
			scanned = "NEVER in full"
		}
		c.cover(r)
		t.Rows = append(t.Rows, []string{c.nameOf(uuid), scanned, stamp(r.from), stamp(r.until), yes(covers), stamp(r.at), r.latest.outcome, r.latest.detail, strconv.Itoa(r.scans), uuid})
	}
	for uuid, name := range c.decided {
		if c.repositories[uuid] == nil && c.Reconciliations > 0 {
			c.cover(new(scannedRepository))
			t.Rows = append(t.Rows, []string{name, "NEVER: Bitbucket did not list it", "", "", yes(false), "", "", "", "0", uuid})
		}
	}
	sortRows(&t, 4, 0, 9) // no comes before yes
	return t
}

func (c *reconciliationSection) cover(r *scannedRepository) {
	c.Listed++
	if r.scans == 0 {
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
func (c *reconciliationSection) runsOf() pack.Table {
	t := pack.Table{Name: "reconciliations", Title: "Reconciliations", Note: "From the beginning of the period to the checkpoint.",
		Columns: []string{"time", "workspace", "outcome", "deployments_since", "until", "rows", "as_sealed", "message", "rows_unread", "reconciliation", "writer", "leaf", "writer_start"}, Extra: 5}
	for _, r := range c.list {
		a := r.Attributes
		t.Rows = append(t.Rows, []string{r.Time, cmp.Or(r.Workspace, r.WorkspaceUUID), a["outcome"], a["since"], a["until"], strconv.Itoa(r.rows), yes(r.Unchanged),
			r.Message, strconv.Itoa(r.unread), r.ID(), r.Writer, whole(r.Leaf), c.starts.of(r.Writer, c.Facts)})
	}
	sortRows(&t, 0, 9, 11)
	return t
}

func (c *reconciliationSection) within(t time.Time) bool {
	return !t.Before(c.Facts.Period.From) && t.Before(c.Facts.Period.To)
}

func (c *reconciliationSection) chosen(repositoryUUID string) bool {
	return pack.IsSelected(c.Facts.Repositories, &recorded.Event{RepositoryUUID: repositoryUUID, Repository: c.nameOf(repositoryUUID)})
}

// nameOf is a repository's name as Bitbucket listed it last, else as decisions have it.
func (c *reconciliationSection) nameOf(uuid string) string {
	if r := c.repositories[uuid]; r != nil && r.latest.repository != "" {
		return r.latest.repository
	}
	return cmp.Or(c.decided[uuid], uuid)
}
