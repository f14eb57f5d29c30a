package report

import (
	"cmp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
)

var policySpec = sectionSpec{
	name: "policy", title: "Policy changes", criteria: []string{"CC8.1", "CC6.1", "CC7.1"},
	kinds: []audit.Kind{audit.KindPolicyLoaded, audit.KindPolicyRejected, audit.KindRepositoryPolicyRejected},
	begin: func() section { return &policySection{runs: map[string][]*run{}} },
	text: `<p>A revision is the SHA-256 of all files of the policy; <code>audit.policies</code> keeps the files. The commit is Git's; a revision from a directory has none, even if a commit has the same files. <b>The author is self-declared: anybody who commits can choose it.</b> The signer is a key that the server's configuration accepts and that it verified; without a signer, signatures were not required. Who approved a commit is in the next section.</p>
<p>Each instance activates a revision by itself. The first table has a row for each activation, including a return to an earlier revision. The counts are the instance's decisions about clients from this activation until its next.</p>
<p>A repository whose folder was rejected in a revision keeps its rules of the latest revision in which they passed, or is denied everything. Its decisions name that revision in <code>repository_revision</code>.</p>`,
}

type tally struct{ allowed, denied int64 }

func (t *tally) add(d *Decision) {
	if d.Verdict == "allow" {
		t.allowed++
	} else {
		t.denied++
	}
}

func (t *tally) join(o tally) {
	t.allowed += o.allowed
	t.denied += o.denied
}

// origin is a revision as it came from its source: the same files from a directory
// and from a commit are two.
type origin struct{ revision, commit string }

// run is a row of decisions that one instance made by one revision, in the order of
// their time.
type run struct {
	origin
	first string // the time of the first
	tally
}

// activation is an event by which an instance began to decide by a revision.
type activation struct {
	*recorded.Event
	inPeriod bool
	change   string
	tally
}

func (a *activation) origin() origin { return origin{a.Revision, a.Commit} }

type policySection struct {
	runs        map[string][]*run // by writer
	total       int               // runs, of all writers
	activations []*activation
	rejected    []*recorded.Event
	spared      []*recorded.Event         // rejections of one repository's rules
	earlier     map[byEarlier]*earlierRun // decisions by a repository's rules of an earlier revision
	hosts       map[string]string
}

func (c *policySection) decision(d *Decision) {
	if d.IsProbe() {
		return
	}
	c.noteEarlier(d)
	by := origin{d.Revision, d.Commit}
	runs := c.runs[d.Writer]
	if n := len(runs); n > 0 && runs[n-1].origin == by {
		runs[n-1].add(d)
		return
	}
	// Over the bound, which no policy that people change comes to, the order is lost
	// and no decision.
	if at := c.runOf(runs, by); at != nil {
		at.add(d)
		return
	}
	r := &run{origin: by, first: d.Time}
	r.add(d)
	c.runs[d.Writer] = append(runs, r)
	c.total++
}

// runOf is a run of the same revision where there are too many runs for another.
func (c *policySection) runOf(runs []*run, by origin) *run {
	if c.total < pack.MaxRows {
		return nil
	}
	at := slices.IndexFunc(runs, func(r *run) bool { return r.origin == by })
	if at < 0 {
		return nil
	}
	return runs[at]
}

func (c *policySection) event(e *loggedEvent) {
	switch e.Kind {
	case "policy_loaded":
		c.activations = append(c.activations, &activation{Event: e.Event, inPeriod: e.inPeriod})
	case "policy_rejected":
		if e.inPeriod {
			c.rejected = append(c.rejected, e.Event)
		}
	case "repository_policy_rejected":
		if e.inPeriod {
			c.spared = append(c.spared, e.Event)
		}
	case "writer_started":
		if c.hosts == nil {
			c.hosts = map[string]string{}
		}
		c.hosts[e.Writer] = e.Attributes["hostname"]
	}
}

func (c *policySection) finish(*pack.Facts) []pack.Table {
	slices.SortStableFunc(c.activations, func(a, b *activation) int {
		return cmp.Or(strings.Compare(a.Time, b.Time), strings.Compare(a.Writer, b.Writer), cmp.Compare(a.WriterSequence, b.WriterSequence))
	})
	c.compare()
	c.assign()
	return []pack.Table{c.activationTable(), c.revisionTable(), c.rejectedTable(), c.sparedTable(), c.earlierTable()}
}

// compare finds what each activation changed for its instance.
func (c *policySection) compare() {
	before := map[string][]origin{} // by writer, in order
	for _, a := range c.activations {
		earlier := before[a.Writer]
		switch {
		case len(earlier) == 0 && a.Attributes["from"] == "disk":
			a.change = "start, with the last good revision from disk"
		case len(earlier) == 0:
			a.change = "start"
		case a.Attributes["rewound"] != "":
			a.change = "rewound: the commit does not descend from the previous one"
		case slices.ContainsFunc(earlier, func(o origin) bool { return o.revision == a.Revision }):
			a.change = "return to an earlier revision"
		default:
			a.change = "new"
		}
		before[a.Writer] = append(earlier, a.origin())
	}
}

// assign gives each run of decisions to the activation that it was made under: the
// latest of the same instance and revision that is not after its first decision.
func (c *policySection) assign() {
	by := map[string][]*activation{}
	for _, a := range c.activations {
		by[a.Writer] = append(by[a.Writer], a)
	}
	for writer, runs := range c.runs {
		for _, r := range runs {
			var under *activation
			for _, a := range by[writer] {
				// A decision that began as a revision was activated is dated before it.
				if a.origin() == r.origin && (under == nil || a.Time <= r.first) {
					under = a
				}
			}
			if under != nil {
				under.join(r.tally)
			}
		}
	}
}

func (c *policySection) activationTable() pack.Table {
	t := pack.Table{Name: "activations", Title: "Activations of revisions by each instance",
		Columns: []string{"time", "hostname", "change", "commit", "signer", "self_declared_author", "commit_subject", "replaces", "allowed", "denied", "in_the_period",
			"full_commit", "replaces_commit", "revision", "replaces_revision", "source", "signature", "decided_before", "instance"}, Extra: 8}
	for _, a := range c.activations {
		if !a.inPeriod && a.tally == (tally{}) {
			continue // of another time
		}
		t.Rows = append(t.Rows, []string{a.Time, cmp.Or(c.hosts[a.Writer], a.Writer), a.change, cmp.Or(shortHash(a.Commit), "none: "+a.Attributes["source"]), signerOf(a.Event),
			a.Attributes["author"], a.Attributes["subject"], shortHash(a.Attributes["replaces_commit"]), whole(a.allowed), whole(a.denied), yes(a.inPeriod),
			a.Commit, a.Attributes["replaces_commit"], a.Revision, a.Attributes["replaces"], a.Attributes["source"], a.Attributes["signature"], a.Attributes["decided_before"], a.Writer})
	}
	return t
}

func (c *policySection) revisionTable() pack.Table {
	t := pack.Table{Name: "revisions", Title: "Revisions in force in the period",
		Columns: []string{"commit", "self_declared_author", "signer", "first_activated", "last_activated", "activations", "instances", "allowed", "denied", "full_commit", "revision"}, Extra: 2}
	type row struct {
		author, signer, first, last string
		activations                 int64
		instances                   Names
		tally
	}
	rows := map[string]*row{}
	of := func(o origin) *row {
		key := o.revision + "\x00" + o.commit
		if rows[key] == nil {
			rows[key] = new(row)
		}
		return rows[key]
	}
	for _, a := range c.activations {
		if !a.inPeriod && a.tally == (tally{}) {
			continue
		}
		r := of(a.origin())
		r.author, r.signer = cmp.Or(r.author, a.Attributes["author"]), cmp.Or(r.signer, signerOf(a.Event))
		r.first, r.last = cmp.Or(r.first, a.Time), a.Time // they are in order
		r.activations++
		r.instances.Add(a.Writer)
	}
	for _, runs := range c.runs {
		for _, made := range runs {
			of(made.origin).join(made.tally)
		}
	}
	for _, key := range Sorted(rows) {
		r := rows[key]
		revision, commit, _ := strings.Cut(key, "\x00")
		shown := shortHash(commit)
		switch {
		case revision == "":
			shown = "(none: refused before policy evaluation)"
		case commit == "":
			shown = "(none: not from Git)"
		}
		t.Rows = append(t.Rows, []string{shown, r.author, r.signer, r.first, r.last, whole(r.activations), whole(int64(len(r.instances))), whole(r.allowed), whole(r.denied), commit, revision})
	}
	sortRows(&t, 3, 10, 9)
	return t
}

func (c *policySection) rejectedTable() pack.Table {
	t := pack.Table{Name: "policy_rejected", Title: "Revisions that were offered and rejected",
		Columns: []string{"time", "hostname", "kind", "commit", "self_declared_author", "commit_subject", "signer", "message",
			"full_commit", "revision", "source", "signature", "instance"}, Extra: 5}
	for _, e := range c.rejected {
		t.Rows = append(t.Rows, []string{e.Time, cmp.Or(c.hosts[e.Writer], e.Writer), e.Attributes["kind"], shortHash(e.Commit), e.Attributes["author"], e.Attributes["subject"], signerOf(e), e.Message,
			e.Commit, e.Revision, e.Attributes["source"], e.Attributes["signature"], e.Writer})
	}
	sortRows(&t, 0, 12, 9, 8)
	return t
}
