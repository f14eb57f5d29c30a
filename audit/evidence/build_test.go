package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestNoPack: if a pack cannot be made, there is no folder and no event of a pack.
func TestNoPack(t *testing.T) {
	full := filepath.Join(t.TempDir(), "full")
	if err := os.Mkdir(full, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*memory, *Options)
		out    string
		want   error
	}{
		"the period is not over": {func(m *memory, o *Options) { m.now = at(20, 0) }, "", ErrNotCovered},
		"events are not sealed": {func(m *memory, o *Options) {
			m.add("z", decisionEvent(900, at(24, 0), "deny", "no_rule_matched", "x.example"))
		}, "", ErrNotCovered},
		"nothing was ever sealed":  {func(m *memory, o *Options) { *m = *newMemory(t) }, "", ErrNotCovered},
		"no checkpoint of a size":  {func(m *memory, o *Options) { o.Size = 5 }, "", ErrParameters},
		"a size that is not there": {func(m *memory, o *Options) { o.Size = 5000 }, "", ErrNotCovered},
		"an empty period":          {func(m *memory, o *Options) { o.Period.To = o.Period.From }, "", ErrParameters},
		"nobody to sign":           {func(m *memory, o *Options) { o.Signer = nil }, "", ErrParameters},
		"a sample below zero":      {func(m *memory, o *Options) { o.Sample = -1 }, "", ErrParameters},
		"it cannot be recorded":    {func(m *memory, o *Options) { o.Record = func(context.Context, Built) error { return errRecord } }, "", errRecord},
		"the folder is there":      {func(m *memory, o *Options) {}, full, nil},
	} {
		t.Run(name, func(t *testing.T) {
			m, o := october(t), options(t)
			recorded := false
			o.Record = func(context.Context, Built) error { recorded = true; return nil }
			c.change(m, &o)
			dir := c.out
			if dir == "" {
				dir = filepath.Join(t.TempDir(), "pack")
			}
			built, err := Build(t.Context(), m, dir, o)
			if err == nil || c.want != nil && !errors.Is(err, c.want) || built != nil {
				t.Errorf("%v, want %v", err, c.want)
			}
			for _, left := range []string{dir, dir + partial} {
				if _, err := os.Stat(left); err == nil && left != c.out {
					t.Errorf("%s is there", left)
				}
			}
			if recorded {
				t.Error("it is recorded")
			}
		})
	}
}

var errRecord = errors.New("the log is away")

// TestHalfWay: a log that fails while it is read leaves nothing, and a pack that was
// killed while it was made does not count as one.
func TestHalfWay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pack")
	for _, log := range []pack.Log{failing{october(t)}, uncounted{october(t)}} {
		if _, err := Build(t.Context(), log, dir, options(t)); !errors.Is(err, errRecord) {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir + partial); err == nil {
		t.Error("what was written is still there")
	}
	if err := os.Mkdir(dir+partial, 0o700); err != nil { // as a kill leaves it
		t.Fatal(err)
	}
	if _, err := Check(t.Context(), dir+partial, CheckOptions{}); !errors.Is(err, ErrNoPack) {
		t.Error(err)
	}
	if _, err := Build(t.Context(), october(t), dir, options(t)); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Error(err)
	}
}

// failing is a log whose connection is cut in its middle.
type failing struct{ *memory }

func (f failing) Walk(ctx context.Context, size int64, sink pack.Sink, progress func(int64)) error {
	return errors.Join(f.memory.Walk(ctx, size/2, sink, progress), errRecord)
}

// uncounted is a log whose connection is cut while the population is written.
type uncounted struct{ *memory }

func (uncounted) Count(context.Context, pack.Selection) (int64, error) { return 0, errRecord }

// TestGivenSize: a pack may use a checkpoint within its period, and reports it.
func TestGivenSize(t *testing.T) {
	m := october(t)
	dir := build(t, m, func(o *Options) { o.Size = m.notes[1].Size })
	if text := tree(t, dir)[pack.ReportFile]; !strings.Contains(text, "40 decisions were made") || !strings.Contains(text, "named when the pack was made") {
		t.Error("the report does not say so")
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestTamperedLog: what was done to the log is in the report, and the pack that
// reports the damage is whole.
func TestTamperedLog(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(*memory)
		want   string
	}{
		"a record": {func(m *memory) {
			m.entries[20].Record = []byte(strings.Replace(string(m.entries[20].Record), "allow", "deny", 1))
		}, "record_changed"},
		"an event is gone":     {func(m *memory) { m.entries[20].Record = nil }, "event_missing"},
		"a leaf":               {func(m *memory) { m.entries[20].Hash[0] ^= 1 }, "record_changed"},
		"a record is not JSON": {func(m *memory) { m.entries[20].Record = []byte("\x00\xff=1+1") }, "record_changed"},
		"a checkpoint":         {func(m *memory) { m.notes[1].Note = m.notes[2].Note }, "checkpoint_changed"},
		"rows that it hides":   {func(m *memory) { m.entries = slices.Delete(m.entries, 20, 21) }, "leaf_missing"},
		"a decision of before": {func(m *memory) { m.entries[1].Record = nil }, "event_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			m := october(t)
			c.tamper(m)
			dir, built := mustBuild(t, m, nil)
			files := tree(t, dir)
			if built.Facts.Result.Sound || built.Manifest.Sound || !strings.Contains(files[pack.ReportFile], "DAMAGED") || !strings.Contains(files[pack.ReportFile], c.want) {
				t.Errorf("%+v", built.Facts.Result)
			}
			if got := check(t, dir, nil); len(got.Findings) > 0 || got.Manifest.Sound {
				t.Errorf("%+v", got)
			}
		})
	}
}

// TestRewrittenLog: who has the key writes the log again. Only a checkpoint that was
// kept outside shows it; without one the pack passes, and is reported as not anchored.
func TestRewrittenLog(t *testing.T) {
	m := october(t)
	honest := m.notes[2].Note
	forged := newMemory(t)
	first := audit.Register(m.signer, at(1, 0))
	forged.add("w", first)
	for n := range int(m.notes[2].Size) - 2 {
		forged.add("w", decisionEvent(n, at(3, 0), "allow", "policy_allowed", "harmless.example"))
	}
	forged.add("w", decisionEvent(99, at(24, 0), "allow", "policy_allowed", "harmless.example"))
	forged.seal(at(25, 0))
	dir := build(t, forged, nil)
	c := check(t, dir, nil)
	if len(c.Findings) > 0 || c.Anchored || len(c.Notes) == 0 || !strings.Contains(tree(t, dir)[pack.ReportFile], "Not anchored") {
		t.Errorf("%+v", c)
	}
	outside := func(o *CheckOptions) { o.Trust.Notes = [][]byte{honest} }
	if c := check(t, dir, outside); len(c.Findings) == 0 || !strings.Contains(c.Findings[0], "another root") {
		t.Errorf("against the honest checkpoint: %+v", c)
	}
	good := build(t, m, func(o *Options) { o.Trust.Notes = [][]byte{honest, m.notes[3].Note} })
	if c := check(t, good, outside); len(c.Findings) > 0 || !c.Anchored || !strings.Contains(tree(t, good)[pack.ReportFile], "<b>Anchored.</b>") {
		t.Errorf("the honest log: %+v", c)
	}
	damaged, _ := mustBuild(t, forged, func(o *Options) { o.Trust.Notes = [][]byte{honest} })
	if !strings.Contains(tree(t, damaged)[pack.ReportFile], "DAMAGED") {
		t.Error("a pack that is made against the honest checkpoint does not say so")
	}
}

// TestLaterCheckpoint: a checkpoint from outside that is larger than the pack's
// speaks for what is before it as well.
func TestLaterCheckpoint(t *testing.T) {
	m := october(t)
	later := m.notes[3].Note
	honest := func(o *Options) { o.Trust.Notes = [][]byte{m.notes[0].Note, later} }
	_, built := mustBuild(t, m, honest)
	if a := built.Facts.Result.Anchored; a == nil || a.Size != m.notes[3].Size || !built.Facts.Result.Sound {
		t.Errorf("%+v", built.Facts.Result)
	}
	first := tree(t, build(t, m, honest))
	m.grow(500, at(29, 0))
	same(t, tree(t, build(t, m, honest)), first)

	forged := october(t)
	forged.entries, forged.notes, forged.tree = nil, nil, audit.Tree{}
	forged.numbers = map[string]int64{}
	forged.add("w", audit.Register(m.signer, at(1, 0)), decisionEvent(1, at(3, 0), "deny", "no_rule_matched", "x.example"))
	forged.seal(at(25, 0))
	for _, name := range []string{"short", "rewritten"} {
		want := audit.DamageShort
		if name == "rewritten" {
			for n := range 200 {
				forged.grow(1000+n, at(27, 0))
			}
			want = audit.DamageTree
		}
		_, built := mustBuild(t, forged, func(o *Options) { o.Trust.Notes = [][]byte{later} })
		if built.Facts.Result.Sound || built.Facts.Result.Counts[want] == 0 || built.Facts.Result.Anchored != nil {
			t.Errorf("%s: %+v", name, built.Facts.Result)
		}
	}
}

// TestSignatures: a manifest counts that is signed by a key from outside, or by
// one that is bound to it; an unsigned one only where that is asked for.
func TestSignatures(t *testing.T) {
	strangers, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := audit.ParseSigner(strangers)
	if err != nil {
		t.Fatal(err)
	}
	m := october(t)
	unsigned := build(t, m, func(o *Options) { o.Signer, o.Unsigned = nil, true })
	foreign := build(t, m, func(o *Options) { o.Signer = stranger })
	both := func(o *CheckOptions) { o.Trust.Keys = append(o.Trust.Keys, stranger.Key()) }
	for name, c := range map[string]struct {
		dir    string
		change func(*CheckOptions)
		whole  bool
	}{
		"unsigned":                      {unsigned, nil, false},
		"unsigned, and asked for":       {unsigned, func(o *CheckOptions) { o.Unsigned = true }, true},
		"a stranger's":                  {foreign, nil, false},
		"a stranger's, who is known":    {foreign, both, true},
		"a stranger's, no key is given": {foreign, func(o *CheckOptions) { o.Trust.Keys = nil }, true},
	} {
		got := check(t, c.dir, c.change)
		if whole := len(got.Findings) == 0; whole != c.whole {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if !strings.Contains(tree(t, unsigned)[pack.ManifestName], "made with --unsigned") {
		t.Error("an unsigned manifest does not say so")
	}

	// The log's key hands over, and the next one signs the pack.
	event, err := m.signer.HandOver(stranger, at(20, 0))
	if err != nil {
		t.Fatal(err)
	}
	m = newMemory(t)
	m.add("w", audit.Register(m.signer, at(1, 0)), event, decisionEvent(1, at(20, 0), "deny", "no_rule_matched", "x.example"))
	m.seal(at(20, 1))
	m.signer = stranger
	m.add("w", decisionEvent(2, at(21, 0), "deny", "no_rule_matched", "x.example"))
	m.seal(at(21, 1))
	dir := build(t, m, func(o *Options) { o.Signer = stranger })
	if got := check(t, dir, nil); len(got.Findings) > 0 || !got.Vouched {
		t.Errorf("after a handover: %+v", got)
	}
}

// TestRetention: what retention has taken since, of months before the period,
// changes no byte; what it removed of the period itself is reported.
func TestRetention(t *testing.T) {
	m := newMemory(t)
	year := func(month time.Month, hour int) time.Time { return time.Date(2025, month, 5, hour, 0, 0, 0, time.UTC) }
	m.add("old", audit.Register(m.signer, year(8, 0)))
	for n := range 4 {
		m.add("old", decisionEvent(n, year(8, 1+n), "deny", "no_rule_matched", "x.example"))
	}
	m.seal(year(8, 10))
	for n := range 3 {
		m.add("old", decisionEvent(10+n, year(9, 1+n), "deny", "no_rule_matched", "y.example"))
	}
	m.seal(year(9, 10))
	september := func(o *Options) {
		o.Period = pack.Period{From: time.Date(2025, 9, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2025, 10, 1, 0, 0, 0, 0, time.UTC)}
	}
	before := tree(t, build(t, m, september))

	take := func(month string, first, last int64) {
		state := sha256.Sum256(m.entries[first].Hash[:])
		for leaf := first + 1; leaf <= last; leaf++ {
			state = sha256.Sum256(append(state[:], m.entries[leaf].Hash[:]...))
		}
		m.add(audit.DatabaseWriter, &audit.Event{Time: at(28, 0), Kind: audit.KindRetention, Attributes: []audit.Attribute{
			{Name: "month", Value: month}, {Name: "events", Value: fmt.Sprint(last - first + 1)}, {Name: "leaves", Value: fmt.Sprintf("%d-%d", first, last)},
			{Name: "login", Value: "migrator"}, {Name: "digest", Value: "sha256:" + hex.EncodeToString(state[:])},
		}})
		m.seal(at(28, 1))
		for leaf := first; leaf <= last; leaf++ {
			m.entries[leaf].Record = nil
		}
	}
	take("2025-08", 1, 4)
	same(t, tree(t, build(t, m, september)), before)

	take("2025-09", 6, 7)
	dir, built := mustBuild(t, m, september)
	if !built.Facts.Result.Sound || len(built.Facts.Removed) != 1 || !strings.Contains(tree(t, dir)[pack.ReportFile], "not the whole population") {
		t.Errorf("%+v", built.Facts)
	}
	m.entries[5].Record = nil // and by hand
	if _, built := mustBuild(t, m, september); built.Facts.Result.Sound {
		t.Error("what was deleted by hand passes for retention")
	}
}
