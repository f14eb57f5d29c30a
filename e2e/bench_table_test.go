package e2e

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/internal/bench"
	"github.com/sallyport/sallyport/internal/pgtest"
)

var (
	benchAll     = flag.Bool("bench-all", false, "TestBench measures, instead of only running each load once")
	benchOnly    = flag.String("bench-only", "", "TestBench measures these loads, separated by commas; empty: all")
	benchTargets = flag.String("bench-targets", "", "TestBench measures the targets whose names contain one of these texts, separated by commas, and the baseline; empty: all")
	benchRuns    = flag.Int("bench-rounds", 3, "rounds of TestBench")
	benchSeconds = flag.Float64("bench-seconds", 1, "seconds of one measurement of TestBench")
	benchMerge   = flag.Bool("bench-merge", false, "TestBench writes what it measured over the same loads and targets of docs/performance.json, and keeps the others")
	benchCompare = flag.Bool("bench-compare", false, "TestBench fails if a ratio is worse than in docs/performance.json by more than the spread")
)

const (
	benchReport = "../docs/performance.json"
	benchPage   = "../docs/performance.md"
)

// TestBench runs every load through the running server, with and without its parts, and
// through other proxies, with the load generator of internal/bench. Without -bench-all it
// only shows that each load works. `make bench` measures.
func TestBench(t *testing.T) {
	o := bench.Options{Baseline: bareName, Rounds: 1, Time: 20 * time.Millisecond, Bytes: 1 << 20, Tunnels: 20, Loads: selectLoads(t)}
	if *benchAll {
		o.Rounds, o.Time = *benchRuns, time.Duration(*benchSeconds*float64(time.Second))
		o.Settle, o.Bytes, o.Tunnels, o.Progress = time.Second, 128<<20, 0, func(line string) { fmt.Println(line) }
	} else {
		t.Parallel()
	}
	upstream, err := bench.StartUpstream()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	o.Upstream = upstream
	o.Targets = selectTargets(t, upstream)
	r := bench.Run(o)
	for _, c := range r.Cells {
		if c.Failure != "" && !isOtherProxy(c.Target) {
			t.Errorf("%s with load %s: %s", c.Target, c.Load, c.Failure)
		}
	}
	if !*benchAll {
		if got, want := len(r.Cells), cells(o); got != want {
			t.Errorf("the report has %d cells, not %d", got, want)
		}
		return
	}
	r.Date, r.Commit, r.Machine = time.Now().UTC().Format(time.DateOnly), commit(t), machine()
	r.Versions["Go"], r.Versions["PostgreSQL"] = strings.TrimPrefix(runtime.Version(), "go"), postgresVersion()
	finishBench(t, r)
}

// selectLoads are the loads that the flags select. The short form omits those with hundreds
// of clients.
func selectLoads(t *testing.T) (list []*bench.Load) {
	t.Helper()
	only := strings.FieldsFunc(*benchOnly, func(r rune) bool { return r == ',' })
	for _, l := range bench.Loads() {
		switch {
		case len(only) > 0 && !slices.Contains(only, l.Name), !*benchAll && (l.Clients > 16 || l.Name == "idle9000"):
		default:
			list = append(list, l)
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(list, func(l *bench.Load) bool { return l.Name == name }) {
			t.Fatalf("unknown load %q: use names of bench.Loads", name)
		}
	}
	return list
}

// selectTargets starts the targets that the flags select. The short form has one server.
func selectTargets(t *testing.T, upstream *bench.Upstream) []*bench.Target {
	t.Helper()
	wanted := func(name string) bool {
		texts := strings.FieldsFunc(*benchTargets, func(r rune) bool { return r == ',' })
		return len(texts) == 0 || slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(name, text) })
	}
	list := []*bench.Target{bareProxy(t, bareName)}
	if wanted("direct") {
		list = append(list, &bench.Target{Name: "direct"})
	}
	var database *database
	var postgres *pgtest.Server
	if *benchAll {
		database, postgres = newServerDatabase(t)
	} else {
		database = newDatabase(t)
	}
	list = append(list, slices.DeleteFunc(sallyportTargets(t, released(t), database, postgres), func(s *bench.Target) bool { return !wanted(s.Name) })...)
	if !*benchAll {
		return list
	}
	if name := sallyportName + ", repository's rules"; wanted(name) {
		list = append(list, withWorker(t, name, postgres))
	}
	if name := bareName + ", GOGC=400"; wanted(name) {
		list = append(list, bareProxy(t, name, "GOGC=400"))
	}
	list = append(list, otherTargets(t, wanted)...)
	for _, part := range benchParts {
		if name := "without " + part.name; wanted(name) {
			list = append(list, withoutPart(t, name, part, postgres))
		}
	}
	return list
}

// cells is the number of cells of a complete report.
func cells(o bench.Options) (n int) {
	for _, l := range o.Loads {
		for _, target := range o.Targets {
			if !(l.WithoutDirect && target.Proxy == "" || l.Refused && len(target.Credentials) == 0 || len(target.Loads) > 0 && !slices.Contains(target.Loads, l.Name)) {
				n++
			}
		}
	}
	return n
}

// finishBench compares what was measured with the committed report, or writes it if it is
// complete.
func finishBench(t *testing.T, r *bench.Report) {
	t.Helper()
	if *benchCompare {
		committed, err := bench.ReadReport(benchReport)
		if err != nil {
			t.Fatal(err)
		}
		for _, worse := range r.Compare(committed) {
			t.Error(worse)
		}
	}
	if !*benchCompare && *benchOnly == "" && *benchTargets == "" || *benchMerge {
		if earlier, err := bench.ReadReport(benchReport); *benchMerge && err == nil {
			r.Merge(earlier)
		}
		if err := r.Write(benchReport); err != nil {
			t.Error(err)
		}
		if err := bench.WritePage(benchPage, r); err != nil {
			t.Error(err)
		}
	}
}

// commit is the commit of the sources, marked if they differ from it.
func commit(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "git", "rev-parse", "--short=8", "HEAD").Output()
	if err != nil {
		return "unknown"
	}
	changed, err := exec.CommandContext(t.Context(), "git", "status", "--porcelain", "--", ":/*.go", ":/*.sql", ":/go.mod").Output()
	if err != nil || len(changed) > 0 {
		return strings.TrimSpace(string(out)) + " with changes"
	}
	return strings.TrimSpace(string(out))
}

// machine describes the machine in a few words.
func machine() string {
	field := func(path, name string) string {
		text, _ := os.ReadFile(path) // without it the description is shorter
		for line := range strings.Lines(string(text)) {
			if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
				return strings.TrimSpace(value)
			}
		}
		return ""
	}
	release, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	number, _, _ := strings.Cut(string(release), "-")
	return fmt.Sprintf("%d processors (%s), %s %s", runtime.NumCPU(), cmp.Or(field("/proc/cpuinfo", "model name"), runtime.GOARCH), runtime.GOOS, strings.TrimSpace(number))
}

// postgresVersion is the version of the PostgreSQL that the tests use.
func postgresVersion() string {
	for _, file := range [...]string{"/usr/lib/postgresql/*/bin/postgres"} {
		found, _ := filepath.Glob(file)
		for _, program := range found {
			if out, err := exec.Command(program, "--version").Output(); err == nil {
				fields := strings.Fields(string(out))
				return fields[min(2, len(fields)-1)]
			}
		}
	}
	return "unknown"
}
