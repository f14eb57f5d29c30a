package evidence

import (
	"bufio"
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// TestHostileFiles: files of a pack that two readers read differently, or that take
// much more than their size to read, are findings, although the manifest is signed.
func TestHostileFiles(t *testing.T) {
	dir := build(t, october(t), nil)
	good := tree(t, dir)
	sample := pack.SamplesFolder + strings.TrimSuffix(filepath.Base(firstSample(good)), ".json") + ".json"
	replace := func(old, new string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, new, 1) }
	}
	empty := string(compressed(nil))
	for name, c := range map[string]struct {
		file string
		edit func(string) string
		want string
	}{
		"a member of the facts twice":                  {pack.FactsFile, replace(`"sound": true`, `"sound": false, "sound": true`), `"sound" is there twice`},
		"a member of the facts in another spelling":    {pack.FactsFile, replace(`"sound": true`, `"Sound": false, "sound": true`), `"Sound" is not known`},
		"facts after the facts":                        {pack.FactsFile, func(s string) string { return s + s }, "something follows"},
		"a bracket after the facts":                    {pack.FactsFile, func(s string) string { return s + "]" }, "something follows"},
		"a member of a sample detail twice":            {sample, replace(`"decision_id": "`, `"decision_id": "x", "decision_id": "`), `"decision_id" is there twice`},
		"a sample detail after the sample detail":      {sample, func(s string) string { return s + s }, "something follows"},
		"a line of the population with a member twice": {pack.PopulationFile, inside(t, replace(`{"leaf":`, `{"leaf":1,"leaf":`)), "line 1"},
		"a record with a member twice":                 {pack.PopulationFile, inside(t, replace(`"verdict":"deny"`, `"verdict":"deny","verdict":"allow"`)), pack.PopulationFile},
		"garbage after the compressed population":      {pack.PopulationFile, func(s string) string { return s + "garbage" }, pack.PopulationFile},
		"a line after the population":                  {pack.PopulationFile, func(s string) string { return s + string(compressed([]byte("{}\n"))) }, "line 52"},
		"a population of zeros":                        {pack.PopulationFile, func(string) string { return string(compressed(make([]byte, 32<<20))) }, "no population compresses so well"},
		"a line of an event twice":                     {pack.EventsFile, func(s string) string { l, _, _ := strings.Cut(s, "\n"); return l + "\n" + s }, "out of order"},
		"a consistency proof of megabytes":             {pack.ConsistencyFile, func(s string) string { return strings.Repeat("0", 1<<20) + s }, pack.ConsistencyFile},
	} {
		t.Run(name, func(t *testing.T) {
			edited := c.edit(good[c.file])
			if edited == good[c.file] {
				t.Fatal("the edit changes nothing")
			}
			hostile := filepath.Join(t.TempDir(), "hostile")
			if err := os.CopyFS(hostile, os.DirFS(dir)); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(hostile, c.file), []byte(edited), 0o600); err != nil {
				t.Fatal(err)
			}
			content := edited
			if c.file == pack.PopulationFile && !strings.HasSuffix(edited, "garbage") {
				content = unzip(t, edited)
			}
			resignAs(t, hostile, good, c.file, edited, content)
			got := check(t, hostile, nil)
			if len(got.Findings) == 0 || !strings.Contains(got.Findings[0], c.want) {
				t.Errorf("found %q", got.Findings)
			}
		})
	}
	// Members without content change nothing, and are not a way to waste time either.
	padded := good[pack.PopulationFile] + strings.Repeat(empty, 100)
	hostile := filepath.Join(t.TempDir(), "hostile")
	if err := os.CopyFS(hostile, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(hostile, pack.PopulationFile), []byte(padded), 0o600); err != nil {
		t.Fatal(err)
	}
	resign(t, hostile, good, pack.PopulationFile, padded)
	if got := check(t, hostile, nil); len(got.Findings) > 0 {
		t.Errorf("empty members: %q", got.Findings)
	}
}

// TestBatchesAreBounded: lines of megabytes do not make a batch of gigabytes, neither
// when a pack is checked nor when one is made. With a bound on their number alone a
// batch of these has 256 times as much.
func TestBatchesAreBounded(t *testing.T) {
	const length = 3 << 20
	line := append(bytes.Repeat([]byte{'x'}, length), '\n')
	in := bufio.NewScanner(bytes.NewReader(bytes.Repeat(line, 6)))
	in.Buffer(make([]byte, 1<<16), pack.MaxLine)
	for total := 0; total < 6; {
		lines := nextLines(in)
		if len(lines) == 0 || len(lines)*length > report.BatchBytes+length {
			t.Fatalf("a batch of %d lines after %d", len(lines), total)
		}
		total += len(lines)
	}
	s := &spool{list: make([]spooled, 1000)}
	for i := range s.list {
		s.list[i].record.length = length
	}
	if n := s.batchEnd(10) - 10; n*length > report.BatchBytes+length || n < 1 {
		t.Errorf("a batch of %d decisions", n)
	}
	if n := s.batchEnd(999); n != 1000 {
		t.Errorf("the last batch ends at %d", n)
	}
}
