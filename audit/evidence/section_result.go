package evidence

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
)

var resultSection = section{
	name: "verification", title: "Is the log whole and unchanged?", criteria: []string{"CC4.1", "CC7.2", "PI1.4"},
	begin: func() chapter { return new(resultChapter) },
	text: `{{with .Facts}}
<p class="result {{if .Result.Sound}}sound{{else}}damaged{{end}}">{{if .Result.Sound}}Sound: nothing was changed, taken away or put in.{{else}}DAMAGED: the log is not what was sealed. What follows may be wrong.{{end}}</p>
<p>All {{.Result.Leaves}} events from the first of the log to the checkpoint were read, hashed, and held against the Merkle tree (RFC 6962) and the signed checkpoints of {{.Result.Hours}} clock hours; of what retention has taken, its hash remains, and an event that says so. They are of {{.Result.Writers}} writers, from {{moment .Result.First}} to {{moment .Result.Last}}.</p>
{{if .Result.Anchored}}<p><b>Anchored.</b> A checkpoint that was kept outside of the database, of size {{.Result.Anchored.Size}} and signed at {{moment .Result.Anchored.Time}}, holds.{{if lt .Result.Anchored.Size .Result.Leaves}} What was sealed after it stands on the log's own checkpoints.{{end}}</p>
{{else}}<p><b>Not anchored.</b> No checkpoint from outside of the database was given that holds. These would then not show: the end of the log was cut off at a checkpoint before this one, or an older backup was restored; or all of it was written again by somebody who has the signing key. Ask for a copy of the checkpoints from a place that the database's administrators cannot write.</p>{{end}}
{{if .Result.Vouching}}<p>Keys that were given from outside, or that such a key handed over to, signed this log, and vouch for what their checkpoints cover:</p><ul>{{range .Result.Vouching}}<li><code>{{cell (print .Key)}}</code>, from the checkpoint of size {{.From}} on</li>{{end}}</ul>
{{else}}<p>No public key was given from outside that signed this log: nobody but the log itself says whose it is.</p>{{end}}
<p>The checkpoint that this pack stands on ({{if .Given}}it was named by whoever made the pack; events of the period that were sealed after it are not in the pack{{else}}the first that covers every event of the period{{end}}):</p>
<pre>{{source .Checkpoint}}</pre>
{{if .Silences}}<p><b>No instance sealed</b> at these times of the period, although one that runs signs a checkpoint every 50 minutes. That is no damage; nothing proves when events of that time were recorded:</p><ul>{{range .Silences}}<li>{{cell (print .)}}</li>{{end}}</ul>{{end}}
{{if .Taken}}<p><b>Decisions of the period are gone:</b> retention has taken {{range $i, $m := .Taken}}{{if $i}}, {{end}}{{$m}}{{end}}. This pack is not the whole population.</p>{{end}}
{{if .Result.Findings}}<p>What was found, the first damaged place first:</p><ul>{{range .Result.Findings}}<li>{{cell .}}</li>{{end}}</ul>{{end}}
{{end}}`,
}

type resultChapter struct {
	nothing
	Facts *Facts
}

func (c *resultChapter) finish(f *Facts) []Table {
	c.Facts = f
	t := Table{Name: "verification", Title: "Verification", Columns: []string{"what", "value"}}
	row := func(name, value string) { t.Rows = append(t.Rows, []string{name, value}) }
	row("sound", strconv.FormatBool(f.Result.Sound))
	row("events", strconv.FormatInt(f.Result.Leaves, 10))
	row("clock hours with a checkpoint", strconv.FormatInt(f.Result.Hours, 10))
	row("silences in the period", strconv.Itoa(len(f.Silences)))
	row("writers", strconv.Itoa(f.Result.Writers))
	row("records that cannot be read", strconv.FormatInt(f.Unreadable, 10))
	for _, k := range f.Result.Keys {
		row("signed by", string(k))
	}
	for _, v := range f.Result.Vouching {
		row("vouched for by a key from outside, from size "+strconv.FormatInt(v.From, 10), string(v.Key))
	}
	if a := f.Result.Anchored; a != nil {
		row("anchored at size", strconv.FormatInt(a.Size, 10))
	}
	for _, d := range sorted(f.Result.Counts) {
		row("damage: "+string(audit.Damage(d)), strconv.FormatInt(f.Result.Counts[d], 10))
	}
	return []Table{t}
}
