package report

import (
	"strconv"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

var resultSpec = sectionSpec{
	name: "verification", title: "Verification of the log", criteria: []string{"CC4.1", "CC7.2", "PI1.4"},
	begin: func() section { return new(resultSection) },
	text: `{{with .Facts}}
<p class="result {{if .Result.Sound}}sound{{else}}damaged{{end}}">{{if .Result.Sound}}Sound: no event was changed, removed or inserted.{{else}}DAMAGED: the log does not match what was sealed. The rest of this report may be wrong.{{end}}</p>
<p>All {{.Result.Leaves}} events from the first of the log to the checkpoint were read, hashed, and compared with the Merkle tree (RFC 6962) and the signed checkpoints of {{.Result.Hours}} clock hours. Of an event that retention removed the hash remains, and a retention event records it. The events are of {{.Result.Writers}} writers, from {{moment .Result.First}} to {{moment .Result.Last}}.</p>
{{if .Result.Anchored}}<p><b>Anchored.</b> A checkpoint that was kept outside of the database, of size {{.Result.Anchored.Size}} and signed at {{moment .Result.Anchored.Time}}, is valid.{{if lt .Result.Anchored.Size .Result.Leaves}} Only the log's own checkpoints cover later events.{{end}}</p>
{{else}}<p><b>Not anchored.</b> No valid checkpoint from outside of the database was given. This pack therefore cannot detect a log whose end was cut off, the restoration of an older backup, or a log that the holder of the signing key rewrote. Ask for a copy of the checkpoints from a place that the database's administrators cannot write to.</p>{{end}}
{{if .Result.Vouching}}<p>These keys were given from outside, or a given key handed over to them. They signed this log and vouch for the events that their checkpoints cover:</p><ul>{{range .Result.Vouching}}<li><code>{{cell (print .Key)}}</code>, from the checkpoint of size {{.From}} on</li>{{end}}</ul>
{{else}}<p>No public key from outside was given that signed this log: only the log itself names its owner.</p>{{end}}
<p>The checkpoint of this pack ({{if .Given}}named when the pack was made; events of the period that were sealed after it are not in the pack{{else}}the first that covers every event of the period{{end}}):</p>
<pre>{{source .Checkpoint}}</pre>
{{if .Silences}}<p><b>No instance sealed</b> during these times, although a running instance signs a checkpoint every 50 minutes. This is not damage, but nothing proves when events of these times were recorded:</p><ul>{{range .Silences}}<li>no instance sealed between {{moment .From}} and {{moment .To}}, after the checkpoint of size {{.Size}}</li>{{end}}</ul>{{end}}
{{if .Removed}}<p><b>Decisions of the period are missing:</b> retention removed {{range $i, $m := .Removed}}{{if $i}}, {{end}}{{$m}}{{end}}. This pack is not the whole population.</p>{{end}}
{{if .Result.Findings}}<p>Findings, the first damaged place first:</p><ul>{{range .Result.Findings}}<li>{{cell .}}</li>{{end}}</ul>{{end}}
{{end}}`,
}

type resultSection struct {
	nothing
	Facts *pack.Facts
}

func (c *resultSection) finish(f *pack.Facts) []pack.Table {
	c.Facts = f
	t := pack.Table{Name: "verification", Title: "Verification", Columns: []string{"property", "value"}}
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
	for _, d := range Sorted(f.Result.Counts) {
		row("damage: "+string(audit.Damage(d)), strconv.FormatInt(f.Result.Counts[d], 10))
	}
	return []pack.Table{t}
}
