package audit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func (l *sealedLog) export(t testing.TB) string {
	t.Helper()
	var out bytes.Buffer
	x := NewExporter(&out)
	next := 0
	for i := range l.entries {
		x.Sealed(&l.entries[i])
		for next < len(l.checkpoints) && l.checkpoints[next].Size == int64(i+1) {
			x.Checkpoint(l.checkpoints[next])
			next++
		}
	}
	for i := range l.unsealed {
		x.Unsealed(&l.unsealed[i])
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func verifyExport(t testing.TB, export string, trust Trust) *Report {
	t.Helper()
	v, err := NewVerification(trust)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.ReadExport(strings.NewReader(export), nil); err != nil {
		t.Fatal(err)
	}
	return v.Report()
}

func TestExport(t *testing.T) {
	l := sample(t)
	trust := Trust{Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[len(l.checkpoints)-1].Note}}
	export := l.export(t)
	if r := verifyExport(t, export, trust); !r.Sound() || r.Leaves != 104 || r.Unsealed != 2 || r.Anchored.Size != 104 || r.Checkpoints != 16 {
		t.Fatalf("%+v", r)
	}
	lines := strings.SplitAfter(export, "\n")
	edit := func(f func(lines []string) []string) string {
		return strings.Join(f(append([]string(nil), lines...)), "")
	}
	at := 0
	for i, line := range lines {
		if strings.HasPrefix(line, `{"leaf":50,`) {
			at = i
		}
	}
	for name, damaged := range map[string]string{
		"a record":            edit(func(l []string) []string { l[at] = strings.Replace(l[at], "deny", "allow", 1); return l }),
		"a line taken away":   edit(func(l []string) []string { return append(l[:at], l[at+1:]...) }),
		"a line twice":        edit(func(l []string) []string { l[at] += l[at]; return l }),
		"lines swapped":       edit(func(l []string) []string { l[at], l[at+1] = l[at+1], l[at]; return l }),
		"cut off":             export[:len(export)/2],
		"cut off at a line":   strings.Join(lines[:at], ""),
		"without its end":     strings.Join(lines[:len(lines)-2], ""),
		"with something more": export + lines[at],
		"a line of no kind":   edit(func(l []string) []string { l[at] += "{\"x\":1}\n"; return l }),
		"no JSON":             edit(func(l []string) []string { l[at] += "x\n"; return l }),
	} {
		if r := verifyExport(t, damaged, trust); r.Sound() {
			t.Errorf("%s: nothing is found", name)
		}
	}
	v, _ := NewVerification(Trust{})
	if err := v.ReadExport(strings.NewReader("hello\n"), nil); !errors.Is(err, ErrExport) {
		t.Error(err)
	}
}

// What is damaged in the log is damaged in its export, and in the same place.
func TestExportKeepsDamage(t *testing.T) {
	for name, damage := range map[string]func(e *Entry){
		"record_changed": func(e *Entry) { e.Record = bytes.Replace(e.Record, []byte("deny"), []byte("allow"), 1) },
		"event_missing":  func(e *Entry) { e.Record = nil },
		"event_inserted": func(e *Entry) { e.Copies = 1 },
	} {
		l := sample(t)
		damage(&l.entries[50])
		r := verifyExport(t, l.export(t), Trust{})
		if len(r.Findings) != 1 || !strings.HasPrefix(r.Findings[0].String(), name+" at leaf 50") {
			t.Errorf("%s: %v", name, r.Findings)
		}
	}
	l := sample(t)
	l.entries[50].Record = []byte("two\nlines")
	if r := verifyExport(t, l.export(t), Trust{}); r.Counts[DamageRecord] != 1 {
		t.Errorf("%v", r.Findings)
	}
}

// No bytes make the reader fail or find a log sound that is not the one.
func FuzzExport(f *testing.F) {
	l := sample(f)
	export := l.export(f)
	trust := Trust{Keys: []Key{l.signer.Key()}, Notes: [][]byte{l.checkpoints[len(l.checkpoints)-1].Note}}
	f.Add(2000, []byte("x"))
	f.Add(40, []byte("}\n{\"copies\":1"))
	f.Fuzz(func(t *testing.T, at int, put []byte) {
		if at < 0 || at >= len(export) || len(put) > 4096 {
			return
		}
		changed := export[:at] + string(put) + export[min(at+len(put), len(export)):]
		v, err := NewVerification(trust)
		if err != nil {
			t.Fatal(err)
		}
		if err := v.ReadExport(strings.NewReader(changed), nil); err != nil {
			return
		}
		r := v.Report()
		if r.Sound() && r.Anchored.Size == 104 && sealedPart(changed) != sealedPart(export) {
			t.Fatalf("changed at %d to %q and found sound", at, put)
		}
	})
}

// sealedPart is the records of an export that are sealed, whatever else is
// spelled in another way.
func sealedPart(export string) string {
	var b strings.Builder
	for line := range strings.Lines(export) {
		if _, record, ok := strings.Cut(line, `,"record":`); ok && strings.HasPrefix(line, leafField) {
			fmt.Fprint(&b, strings.TrimRight(record, "\r\n"))
		}
	}
	return b.String()
}

func BenchmarkVerifyExport(b *testing.B) {
	l := newLog(b)
	for n := range 50_000 {
		e := decided(n)
		e.Input = []byte(`{"x":"` + strings.Repeat("y", 900) + `"}`)
		l.add("a", e)
	}
	l.seal(b)
	export := l.export(b)
	b.SetBytes(int64(len(export)))
	b.ResetTimer()
	leaves := int64(0)
	for b.Loop() {
		leaves += verifyExport(b, export, Trust{}).Leaves
	}
	b.ReportMetric(float64(leaves)/b.Elapsed().Seconds(), "events/s")
}
