package evidence

import (
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

var update = flag.Bool("update", false, "write testdata/pack anew")

func build(t testing.TB, m *memory, change func(*Options)) string {
	t.Helper()
	dir, _ := mustBuild(t, m, change)
	return dir
}

func mustBuild(t testing.TB, m *memory, change func(*Options)) (string, *Built) {
	t.Helper()
	o := options(t)
	if change != nil {
		change(&o)
	}
	dir := filepath.Join(t.TempDir(), "pack")
	built, err := Build(t.Context(), m, dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return dir, built
}

func check(t testing.TB, dir string, change func(*CheckOptions)) *Checked {
	t.Helper()
	o := CheckOptions{Trust: audit.Trust{Keys: []audit.Key{signer(t).Key()}}, Tool: "test"}
	if change != nil {
		change(&o)
	}
	c, err := Check(t.Context(), dir, o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// tree is every file of a folder.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func same(t *testing.T, got, want map[string]string) {
	t.Helper()
	for _, name := range report.Sorted(want) {
		if got[name] != want[name] {
			t.Errorf("%s differs", name)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
}

// TestGoldenPack compares a whole pack with the one in testdata: its text is
// for people to read there. Its check holds.
func TestGoldenPack(t *testing.T) {
	golden := filepath.Join("testdata", "pack")
	dir := build(t, october(t), nil)
	if *update {
		if err := os.RemoveAll(golden); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(golden, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
	}
	same(t, tree(t, dir), tree(t, golden))
	if c := check(t, golden, nil); len(c.Findings) > 0 || !c.Vouched {
		t.Errorf("%+v", c)
	}
}

// TestSameBytes: a log that has grown gives the same pack, and another period or
// seed another one.
func TestSameBytes(t *testing.T) {
	m := october(t)
	first := tree(t, build(t, m, nil))
	for n := range 20 {
		m.grow(300+n, at(27, n))
	}
	m.reconcile(writerC, at(27, 22), at(27, 22), missingRun("observed", at(27, 22)))
	m.seal(at(27, 23))
	same(t, tree(t, build(t, m, nil)), first)
	if other := tree(t, build(t, m, func(o *Options) { o.Seed = "t" })); other["manifest"] == first["manifest"] || other["population.csv"] != first["population.csv"] {
		t.Error("another seed changes more or less than the sample")
	}
}

// TestCounts: the tables have what the population has.
func TestCounts(t *testing.T) {
	files := tree(t, build(t, october(t), nil))
	if n := strings.Count(unzip(t, files[pack.PopulationFile]), "\n"); n != 51 {
		t.Errorf("%d decisions", n)
	}
	for name, want := range map[string]string{
		"tables/outcomes.csv":         `"client","allow","enforce","false","policy_allowed","","policy decision","40"`,
		"tables/destinations.csv":     `"acme/payments","production-eu","production","api.partner.example:443","2026-10-02T09:00:00.000000Z","2026-10-21T09:00:39.000000Z","40","0","5","665","35000","partner"`,
		"tables/report_mode.csv":      `"fonts.unlisted.example:443","no_rule_matched","observed"`,
		"tables/would_close.csv":      `"fonts.unlisted.example:443","hello_encrypted","2","2026-10-23T04:00:00.000000Z","2026-10-23T05:00:00.000000Z","observed","",`,
		"tables/denials.csv":          `"paste.example:443","policy_denied","no-paste-sites"`,
		"tables/exceptions.csv":       `","2026-10-10T00:00:00Z","expired in the period","1","2026-10-22T03:00:00.000000Z"`,
		"tables/revisions.csv":        `"0123456789ab","Ada <ada@acme.example>","ada"`,
		"tables/activations.csv":      `"proxy-2"`,
		"tables/approvals.csv":        `"self approved","no","","Ada {0a000000-0000-4000-8000-000000000001}"`,
		"tables/policy_rejected.csv":  `"does_not_load"`,
		"tables/writers.csv":          `LOST: terminated without writer_ended`,
		"tables/without_writer.csv":   `"2026-10-24T04:00:00Z","2026-10-25T00:00:00Z","20 h"`,
		"tables/journals.csv":         `"3"`,
		"tables/operator_actions.csv": `"emergency_stop","ops"`,
		"tables/exports.csv":          `"audit query","sallyport_auditor","","7"`,
		"tables/retention.csv":        `first_day=2025-08-01`,
		"tables/keys.csv":             `"the log itself","","yes"`,
		"tables/other.csv":            `"name_reassigned"`,
		"tables/secret_ages.csv":      `"yes","webhooks.receivers[policy].secret_file","webhook_secret","2026-06-23T00:00:00.000000Z","121","","2026-10-22T06:00:00.000000Z","yes"`,
		"report.html":                 `Sound: no event was changed`,
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s does not say %s:\n%s", name, want, files[name])
		}
	}
}

// TestNarrowed: a pack about one repository has the number of decisions that it leaves out.
func TestNarrowed(t *testing.T) {
	dir := build(t, october(t), func(o *Options) { o.Repositories = []string{"acme/website"} })
	files := tree(t, dir)
	if n := strings.Count(unzip(t, files[pack.PopulationFile]), "\n"); n != 1 || !strings.Contains(files["report.html"], "50 decisions for other repositories are not included") {
		t.Errorf("%d decisions", n)
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestHostileTextIsText: what an attacker makes up is markup in no page and a
// formula in no table, and names no file.
func TestHostileTextIsText(t *testing.T) {
	files := tree(t, build(t, october(t), func(o *Options) { o.Sample = 100 }))
	for name, text := range files {
		switch {
		case strings.HasSuffix(name, ".html"):
			if strings.Contains(text, "<script") || strings.Contains(text, "src=") || strings.Contains(text, "http://") || strings.Contains(text, "https://") && strings.Contains(text, `href="https`) {
				t.Errorf("%s has a script or something from outside", name)
			}
		case strings.HasSuffix(name, ".csv"):
			if strings.Contains(text, `"=cmd`) {
				t.Errorf("%s has a formula", name)
			}
		}
		if !pack.IsPath(name) {
			t.Errorf("a file is called %q", name)
		}
	}
	if !strings.Contains(files["report.html"], "&lt;script&gt;") {
		t.Error("the hostile text is not shown at all")
	}
}

// TestPipeIsNoPack: a pipe in the place of a file would be waited for without end.
func TestPipeIsNoPack(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mkfifo(filepath.Join(dir, pack.ManifestName), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := Check(t.Context(), dir, CheckOptions{}); done <- err }()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the pipe is waited for")
	}
}

// TestEveryFileIsGuarded: a byte changed in any file, a file taken away, put in or
// renamed, is found, and named.
func TestEveryFileIsGuarded(t *testing.T) {
	dir := build(t, october(t), nil)
	files := tree(t, dir)
	for _, name := range report.Sorted(files) {
		path := filepath.Join(dir, name)
		text := []byte(files[name])
		for what, change := range map[string]func() error{
			"changed": func() error {
				text := bytes.Clone(text)
				text[len(text)/2] ^= 1
				return os.WriteFile(path, text, 0o600)
			},
			"cut": func() error { return os.WriteFile(path, text[:len(text)-1], 0o600) },
		} {
			if len(text) == 0 {
				continue
			}
			if err := change(); err != nil {
				t.Fatal(err)
			}
			c, err := Check(t.Context(), dir, CheckOptions{Trust: audit.Trust{Keys: []audit.Key{signer(t).Key()}}, Tool: "test"})
			if err != nil || len(c.Findings) == 0 || !strings.HasPrefix(c.Findings[0], name) {
				t.Errorf("%s was %s: %v %v", name, what, err, c)
			}
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		c, err := Check(t.Context(), dir, CheckOptions{Trust: audit.Trust{Keys: []audit.Key{signer(t).Key()}}, Tool: "test"})
		if name == pack.ManifestName {
			if !errors.Is(err, ErrNoPack) {
				t.Errorf("without a manifest: %v", err)
			}
		} else if err != nil || len(c.Findings) == 0 || !strings.HasPrefix(c.Findings[0], name) {
			t.Errorf("%s was taken away: %v %v", name, err, c)
		}
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	extra := filepath.Join(dir, "samples", "extra.html")
	if err := os.WriteFile(extra, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := check(t, dir, nil); len(c.Findings) == 0 || !strings.Contains(c.Findings[0], "extra.html") {
		t.Error(c.Findings)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/etc/passwd", extra); err != nil {
		t.Fatal(err)
	}
	if c := check(t, dir, nil); len(c.Findings) == 0 || !strings.Contains(c.Findings[0], "not a regular file") {
		t.Error(c.Findings)
	}
	if err := os.Remove(extra); err != nil {
		t.Fatal(err)
	}
	if c := check(t, dir, nil); len(c.Findings) > 0 {
		t.Error(c.Findings)
	}
}

// TestForgedByTheKeysHolder: who has the key and signs a manifest over files that
// do not belong together is found by comparing the files.
func TestForgedByTheKeysHolder(t *testing.T) {
	dir := build(t, october(t), nil)
	good := tree(t, dir)
	sample := pack.SamplesFolder + strings.TrimSuffix(filepath.Base(firstSample(good)), ".json")
	for name, c := range map[string]struct {
		file string
		edit func(string) string
	}{
		"a count of the report": {pack.ReportFile, func(s string) string { return strings.Replace(s, "51 decisions", "50 decisions", 1) }},
		"a table":               {"tables/denials.csv", func(s string) string { return strings.Replace(s, "policy_denied", "policy_allowed", 1) }},
		"a line too few":        {pack.PopulationFile, inside(t, func(s string) string { _, after, _ := strings.Cut(s, "\n"); return after })},
		"a line twice":          {pack.PopulationFile, inside(t, func(s string) string { first, _, _ := strings.Cut(s, "\n"); return first + "\n" + s })},
		"a verdict":             {pack.PopulationFile, inside(t, func(s string) string { return strings.Replace(s, `"verdict":"deny"`, `"verdict":"allow"`, 1) })},
		"a tunnel's reason":     {pack.EventsFile, func(s string) string { return strings.Replace(s, "hello_encrypted", "hello_missing", 1) }},
		"a count of tunnels":    {"tables/would_close.csv", func(s string) string { return strings.Replace(s, `"hello_encrypted","2"`, `"hello_encrypted","1"`, 1) }},
		"an operator action":    {pack.EventsFile, func(s string) string { return strings.Replace(s, "emergency_stop", "policy_reload", 1) }},
		"the spreadsheet":       {pack.Spreadsheet, func(s string) string { return strings.Replace(s, "paste.example", "other.example", 1) }},
		"a record of a sample detail": {sample + ".json", func(s string) string {
			return strings.Replace(s, `\"host\":\"api.partner.example\",\"port\"`, `\"host\":\"api.partner.exampl3\",\"port\"`, 1)
		}},
		"a proof": {sample + ".json", func(s string) string {
			return strings.Replace(s, `"hashes": [`, `"hashes": [`+"\n"+`"`+zeroHash+`",`, 1)
		}},
		"a consistency proof": {pack.ConsistencyFile, func(s string) string {
			return strings.Replace(s, `"hashes":["`, `"hashes":["`+zeroHash+`","`, 1)
		}},
		"the head of a consistency proof": {pack.ConsistencyFile, func(s string) string {
			return strings.Replace(s, `{"from":{"size":3,"root":"`, `{"from":{"size":2,"root":"`, 1)
		}},
		"a consistency proof of another checkpoint": {pack.ConsistencyFile, func(s string) string { return strings.Replace(s, `"to":{"size":`, `"to":{"size":1`, 1) }},
		"a page of the sample":                      {sample + ".html", func(s string) string { return strings.Replace(s, "payments", "payment5", 1) }},
		"the facts": {pack.FactsFile, func(s string) string {
			return strings.Replace(s, `"decisions_selected": 51`, `"decisions_selected": 52`, 1)
		}},
		"another verdict of the verification": {pack.FactsFile, func(s string) string { return strings.Replace(s, `"sound": true`, `"sound": false`, 1) }},
	} {
		t.Run(name, func(t *testing.T) {
			edited := c.edit(good[c.file])
			if edited == good[c.file] {
				t.Fatal("the edit changes nothing")
			}
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(edited), 0o600); err != nil {
				t.Fatal(err)
			}
			resign(t, dir, good, c.file, edited)
			if got := check(t, dir, nil); len(got.Findings) == 0 {
				t.Error("it is not found")
			} else {
				t.Log(got.Findings[0])
			}
			for _, file := range []string{c.file, pack.ManifestName} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(good[file]), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

var zeroHash = seedText(audit.Hash{})

func seedText(h audit.Hash) string { return h.String() }

func firstSample(files map[string]string) string {
	for _, name := range report.Sorted(files) {
		if strings.HasPrefix(name, pack.SamplesFolder) && strings.HasSuffix(name, ".json") {
			return name
		}
	}
	return ""
}

// resign makes a manifest in which one file is what it is now.
func resign(t *testing.T, dir string, good map[string]string, name, edited string) {
	t.Helper()
	content := edited
	if name == pack.PopulationFile {
		content = unzip(t, edited)
	}
	resignAs(t, dir, good, name, edited, content)
}

// resignAs is resign for a file that has this content according to the manifest,
// if it is compressed.
func resignAs(t *testing.T, dir string, good map[string]string, name, edited, content string) {
	t.Helper()
	m, _, err := pack.OpenManifest([]byte(good[pack.ManifestName]), []audit.Key{signer(t).Key()}, false)
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.Files {
		if m.Files[i].Path == name {
			m.Files[i].Size, m.Files[i].Digest = int64(len(edited)), hexDigest(edited)
			if m.Files[i].Content != nil {
				m.Files[i].Content = &pack.Content{Size: int64(len(content)), Digest: hexDigest(content)}
			}
		}
	}
	text, err := m.Encode(signer(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, pack.ManifestName), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// unzip is what is in a compressed file.
func unzip(t testing.TB, file string) string {
	t.Helper()
	z, err := gzip.NewReader(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inside edits what is in a compressed file.
func inside(t testing.TB, edit func(string) string) func(string) string {
	return func(file string) string { return string(compressed([]byte(edit(unzip(t, file))))) }
}

func hexDigest(text string) string {
	h := newHashed()
	_, _ = h.WriteString(text)
	return h.digest()
}

// TestProgress: building and checking report how far they are in each stage.
func TestProgress(t *testing.T) {
	reached := map[string]int64{}
	report := func(stage string, n int64) { reached[stage] = max(reached[stage], n) }
	g := newGenerated(t, 2000)
	o := options(t)
	o.Progress = report
	dir := filepath.Join(t.TempDir(), "pack")
	if _, err := Build(t.Context(), g, dir, o); err != nil {
		t.Fatal(err)
	}
	c, err := Check(t.Context(), dir, CheckOptions{Tool: "test", Progress: report})
	if err != nil || len(c.Findings) > 0 {
		t.Fatalf("%v: %+v", err, c)
	}
	for stage, want := range map[string]int64{
		"events verified": 2000, "decisions of the period": 2000, "sample details": int64(o.Sample),
		"bytes compared with the manifest": c.Bytes, "decisions checked": 1024, "sample details checked": int64(o.Sample),
	} {
		if reached[stage] < want {
			t.Errorf("%s: %d of %d", stage, reached[stage], want)
		}
	}
}
