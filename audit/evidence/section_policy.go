package evidence

import "github.com/sallyport/sallyport/audit"

var policySection = section{
	name: "policy", title: "Changes of policy", criteria: []string{"CC8.1", "CC6.1", "CC7.1"},
	kinds: []audit.Kind{audit.KindPolicyLoaded, audit.KindPolicyRejected},
	begin: func() chapter { return &policyChapter{decisions: map[[2]string]*tally{}} },
	text: `<p>A revision is the SHA-256 of all files of the policy; <code>audit.policies</code> keeps the files. The commit is Git's, where policy comes from Git. <b>The author is what the commit says of itself: whoever commits chooses it freely.</b> The signer is the key that the server was told to accept and has checked; where none is named, signatures were not asked for. Who reviewed and approved a change is in the Git server, and not here.</p>
<p>Each instance activates a revision by itself: the second table says when, and how many decisions about clients it then made under it.</p>`,
}

type tally struct{ allowed, denied int64 }

func (t *tally) add(d *decided) {
	if d.Verdict == "allow" {
		t.allowed++
	} else {
		t.denied++
	}
}

type loaded struct {
	*said
	inPeriod bool
}

type policyChapter struct {
	decisions map[[2]string]*tally // writer, revision
	loaded    []loaded
	refused   []*said
	hosts     map[string]string
}

func (c *policyChapter) decision(d *decided) {
	if d.isProbe() {
		return
	}
	key := [2]string{d.Writer, d.Revision}
	t := c.decisions[key]
	if t == nil {
		t = new(tally)
		c.decisions[key] = t
	}
	t.add(d)
}

func (c *policyChapter) event(e *happened) {
	switch e.Kind {
	case "policy_loaded":
		c.loaded = append(c.loaded, loaded{e.said, e.inPeriod})
	case "policy_rejected":
		if e.inPeriod {
			c.refused = append(c.refused, e.said)
		}
	case "writer_started":
		if c.hosts == nil {
			c.hosts = map[string]string{}
		}
		c.hosts[e.Writer] = e.Attributes["hostname"]
	}
}

func (c *policyChapter) finish(*Facts) []Table {
	revisions := Table{Name: "revisions", Title: "Revisions that decided in the period",
		Columns: []string{"revision", "commit", "author_as_the_commit_says", "subject_as_the_commit_says", "signer", "first_activated", "last_activated", "instances", "allowed", "denied"}}
	activations := Table{Name: "activations", Title: "When each instance activated a revision",
		Columns: []string{"time", "instance", "hostname", "revision", "notes", "in_the_period", "allowed", "denied", "commit", "replaces", "source"}, Extra: 3}
	type revision struct {
		commit, author, subject, signer, first, last string
		instances                                    names
		tally
		began bool
	}
	by := map[string]*revision{}
	of := func(digest string) *revision {
		r := by[digest]
		if r == nil {
			r = new(revision)
			by[digest] = r
		}
		return r
	}
	counted := map[[2]string]bool{}
	for _, l := range c.loaded {
		key := [2]string{l.Writer, l.Revision}
		made := c.decisions[key]
		if !l.inPeriod && made == nil {
			continue // of another time
		}
		r := of(l.Revision)
		r.began = true
		if r.first == "" || l.Time < r.first {
			r.first = l.Time
		}
		r.last = max(r.last, l.Time)
		r.instances.add(l.Writer)
		if r.commit == "" || r.author == "" { // of several activations the first that knows
			r.commit, r.author, r.subject, r.signer = l.Commit, l.Attributes["author"], l.Attributes["subject"], l.Attributes["signer"]
		}
		row := tally{}
		if made != nil && !counted[key] { // of several activations by one instance the first has the count
			counted[key] = true
			row = *made
		}
		activations.Rows = append(activations.Rows, []string{l.Time, l.Writer, c.hosts[l.Writer], l.Revision,
			notesOf(l.said), yes(l.inPeriod), whole(row.allowed), whole(row.denied), l.Commit, l.Attributes["replaces"], l.Attributes["source"]})
	}
	for key, t := range c.decisions {
		r := of(key[1])
		r.allowed += t.allowed
		r.denied += t.denied
	}
	for _, digest := range sorted(by) {
		r := by[digest]
		shown := digest
		if digest == "" {
			shown = "(none: refused before policy was asked)"
		}
		revisions.Rows = append(revisions.Rows, []string{shown, r.commit, r.author, r.subject, r.signer, r.first, r.last, whole(int64(len(r.instances))), whole(r.allowed), whole(r.denied)})
	}
	sortRows(&revisions, 5, 0)
	sortRows(&activations, 0, 1, 3)
	refused := Table{Name: "policy_rejected", Title: "Revisions that were offered and not taken", Columns: []string{"time", "instance", "kind", "revision", "commit", "message"}}
	for _, e := range c.refused {
		refused.Rows = append(refused.Rows, []string{e.Time, e.Writer, e.Attributes["kind"], e.Revision, e.Commit, e.Message})
	}
	sortRows(&refused, 0, 1, 3)
	return []Table{revisions, activations, refused}
}

func notesOf(s *said) string {
	var n names
	if s.Attributes["from"] == "disk" {
		n.add("the last good one, from disk")
	}
	if s.Attributes["rewound"] != "" {
		n.add("does not follow on the commit before")
	}
	if at := s.Attributes["decided_before"]; at != "" {
		n.add("had decided before, at " + at)
	}
	return n.String()
}
