package report

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// maxSecretAge is the age after which a secret has to be replaced.
const maxSecretAge = 90 * 24 * time.Hour

var secretsSpec = sectionSpec{
	name: "secrets", title: "Ages of secrets", criteria: []string{"CC6.1", "CC6.3"},
	kinds: []audit.Kind{audit.KindSecretAges},
	begin: func() section {
		return &secretsSection{versions: map[secretVersion]*secretReport{}, days: map[string]bool{}}
	},
	text: `<p>Each instance of the server records when each of its secrets was last changed: at its start, once a day, and within minutes of a change. Secrets are webhook secrets, credentials of webhook agents, tokens of APIs and of Git, connection strings, private keys and certificates. No event contains a secret.</p>
{{if not .Reports}}<p class="result damaged">No ages of secrets are recorded in the period.</p>
{{else}}<p>{{n .Reports "report" "reports"}} in the period, about {{n .Names "secret" "secrets"}}. {{if .Days}}On {{n .Days "day" "days"}} of the period no instance reported.{{end}}</p>
{{if .Old}}<p class="result damaged">{{n .Old "secret was" "secrets were"}} in use for more than 90 days at a report of the period.</p>
{{else}}<p>No secret of known age was in use for more than 90 days at a report of the period.</p>{{end}}
{{if .Unknown}}<p>The age of {{n .Unknown "secret" "secrets"}} is unknown: it comes from an environment variable, or its file could not be read.</p>{{end}}{{end}}
{{if .Omitted}}<p class="result damaged">{{n .Omitted "more entry of an event is" "more entries of events are"}} not in the table: there are too many.</p>{{end}}
<p>A report is the statement of its writer. The age of a secret in a file is that of the file: a deployment that writes the same secret again makes the secret look new. The age of a certificate is from the beginning of its validity; an agent's credential has the time of its creation in the database.</p>`,
}

// secretVersion is one secret between two changes.
type secretVersion struct {
	name, kind, since, expires string
}

// secretReport is what the events of the period report of a version.
type secretReport struct {
	first, last string // times of events
	age         time.Duration
	writers     map[string]bool
}

type secretsSection struct {
	nothing
	startsUser
	Reports, Days, Names, Old, Unknown int
	Omitted                            int64
	versions                           map[secretVersion]*secretReport
	days                               map[string]bool
}

func (c *secretsSection) event(e *loggedEvent) {
	if !e.inPeriod || e.Kind != string(audit.KindSecretAges) {
		return
	}
	c.Reports++
	if at := pack.ParseTime(e.Time); !at.IsZero() {
		c.days[at.UTC().Format(time.DateOnly)] = true
	}
	for _, a := range audit.SecretAges(e.Attributes) {
		c.add(e, a)
	}
	if n, err := strconv.ParseInt(e.Attributes["secrets_left_out"], 10, 64); err == nil && n > 0 {
		c.Omitted = pack.AddSaturated(c.Omitted, n)
	}
}

func (c *secretsSection) add(e *loggedEvent, a audit.SecretAge) {
	v := secretVersion{a.Name, a.Kind, pack.FormatTime(a.Since), pack.FormatTime(a.Expires)}
	r := c.versions[v]
	if r == nil {
		if len(c.versions) >= pack.MaxRows {
			c.Omitted = pack.AddSaturated(c.Omitted, 1)
			return
		}
		r = &secretReport{first: e.Time, last: e.Time, writers: map[string]bool{}}
		c.versions[v] = r
	}
	r.first, r.last = min(r.first, e.Time), max(r.last, e.Time)
	if !a.Since.IsZero() {
		r.age = max(r.age, pack.ParseTime(e.Time).Sub(a.Since))
	}
	if len(r.writers) < maxSecretWriters {
		r.writers[e.Writer] = true
	}
}

// maxSecretWriters bounds the writers that are counted for one version.
const maxSecretWriters = 1000

func (c *secretsSection) finish(f *pack.Facts) []pack.Table {
	t := pack.Table{Name: "secret_ages", Title: "Secrets", Columns: []string{"over_90_days", "secret", "kind", "since", "age_days", "expires", "last_reported", "signed_start", "first_reported", "writers"}, Extra: 2,
		Note: "A row for each secret and each of its changes, those over 90 days first. age_days: whole days at last_reported. Two rows of one secret with the same last_reported are of instances that have different ones. signed_start: a writer that reported the row showed the log's key."}
	names := map[string]bool{}
	old, unknown := map[string]bool{}, map[string]bool{}
	for v, r := range c.versions {
		names[v.name] = true
		over, days := "unknown", ""
		switch {
		case v.since == "":
			unknown[v.name] = true
		case r.age > maxSecretAge:
			old[v.name] = true
			over, days = "yes", wholeDays(r.age)
		default:
			over, days = "no", wholeDays(r.age)
		}
		t.Rows = append(t.Rows, []string{over, v.name, v.kind, v.since, days, v.expires, r.last, yes(c.signed(r, f)), r.first, whole(int64(len(r.writers)))})
	}
	sortRows(&t, 1, 3, 2, 5)
	weights := map[string]int{"yes": 0, "unknown": 1, "no": 2}
	slices.SortStableFunc(t.Rows, func(a, b []string) int { return cmp.Compare(weights[a[0]], weights[b[0]]) })
	c.Names, c.Old, c.Unknown = len(names), len(old), len(unknown)
	c.Days = c.daysWithout(f.Period)
	return []pack.Table{t}
}

// signed reports whether a writer that showed the log's key reported the row.
func (c *secretsSection) signed(r *secretReport, f *pack.Facts) bool {
	for w := range r.writers {
		if c.starts.of(w, f) == startSigned {
			return true
		}
	}
	return false
}

func wholeDays(d time.Duration) string { return whole(int64(max(d, 0) / (24 * time.Hour))) }

// daysWithout counts the days of a period, in UTC, on which no instance reported.
func (c *secretsSection) daysWithout(p pack.Period) (n int) {
	for day := p.From.UTC().Truncate(24 * time.Hour); day.Before(p.To); day = day.AddDate(0, 0, 1) {
		if !c.days[day.Format(time.DateOnly)] {
			n++
		}
	}
	return n
}
