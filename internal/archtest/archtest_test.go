package archtest

import (
	"bufio"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sallyport/sallyport"

// core holds, for each package of types and for the core, the only imports that
// it may have besides the standard library. What is not in here is an adapter,
// wiring, or internal.
var core = map[string][]string{
	"identity":                {},
	"migrations":              {},
	"internal/destination":    {},
	"internal/fair":           {},
	"internal/uuid":           {},
	"internal/durable":        {},
	"internal/pause":          {},
	"internal/age":            {},
	"internal/stepapi":        {},
	"policy/rego/paths":       {},
	"policy":                  {module + "/identity", module + "/internal/destination", module + "/internal/nearest"},
	"audit":                   {"golang.org/x/mod/sumdb"},
	"audit/recorded":          {module + "/audit"},
	"audit/evidence/pack":     {module + "/audit", module + "/policy"},
	"audit/evidence/ruletext": {module + "/audit/evidence/pack", module + "/audit/recorded", module + "/policy"},
	"proxy":                   {module + "/identity", module + "/policy", module + "/audit", module + "/internal/destination", module + "/internal/fair", module + "/internal/uuid"},
	"webhook":                 {module + "/policy", module + "/internal/destination", module + "/internal/uuid"},
	"reconcile":               {module + "/identity", module + "/audit", module + "/internal/pause", module + "/internal/uuid"},
	"webhook/agent":           {module + "/webhook", module + "/webhook/dispatch", module + "/internal/printable", module + "/internal/uuid"},
	"webhook/resource":        {module + "/webhook", module + "/webhook/dispatch", module + "/internal/pause"},
	"webhook/dispatch":        {module + "/webhook", module + "/internal/pause", module + "/internal/printable"},
	"step/token":              {module + "/identity"},
	"step/socks":              {},
	"step/peeruid":            {"golang.org/x/sys/unix"},
	"step/upstream":           {module + "/step/token", module + "/internal/printable", module + "/internal/stepapi"},
	"step/forwarder":          {module + "/step/upstream", module + "/step/socks", module + "/step/peeruid"},
}

// stepSide is the program in build steps: small, and without what only the server needs.
// It imports these packages of the module, besides its own, and these libraries.
var stepSide = struct{ own, libraries []string }{
	own:       []string{"identity", "internal/destination", "internal/durable", "internal/nearest", "internal/pause", "internal/printable", "internal/regotext", "internal/stepapi", "internal/systemd"},
	libraries: []string{"golang.org/x/sys", "github.com/spf13/cobra", "github.com/spf13/pflag"},
}

// refuseStep returns why a package of the step's side may not import a package; "" if it
// may.
func refuseStep(imported, own string, isOwn bool) string {
	allowed := isStandard(imported)
	switch {
	case isOwn:
		allowed = within(own, "step") || within(own, "cmd/sallyport-step") || slices.Contains(stepSide.own, own)
	case !allowed:
		allowed = slices.ContainsFunc(stepSide.libraries, func(l string) bool { return within(imported, l) })
	}
	if allowed {
		return ""
	}
	return "the program in build steps stays small: it has nothing of the server's"
}

// adapters never import each other, and no core or internal package imports one.
var adapters = []string{
	"proxy/frontend", "proxy/goproxy", "proxy/dns",
	"identity/bitbucket", "identity/postgres",
	"policy/rego", "policy/source",
	"audit/postgres/writer", "audit/postgres/sealer", "audit/postgres/reader", "audit/evidence",
	"reconcile/bitbucket", "reconcile/postgres",
	"webhook/listener",
	"webhook/postgres", "webhook/agent/postgres",
}

// managers put adapters together for wiring: the adapters that each may import. No
// core, internal or adapter package imports a manager.
var managers = map[string][]string{"policy/manager": {"policy/rego", "policy/source"}}

// parts are the packages that belong to an adapter, which imports them.
var parts = []string{"policy/rego/canonical", "policy/rego/check", "policy/rego/decisions", "policy/rego/document", "policy/rego/functions", "policy/rego/reads", "policy/rego/slow", "audit/evidence/report"}

// overParts are the parts that import other parts of their adapter.
var overParts = map[string][]string{"policy/rego/slow": {"policy/rego/check"}}

// leaves are the packages that several adapters of one technology share, and these
// adapters. Beside them only wiring imports a leaf.
var leaves = map[string][]string{
	"audit/postgres": {"audit/postgres/writer", "audit/postgres/sealer", "audit/postgres/reader"},
}

// testHelpers are the folders of packages that tests of several packages share.
var testHelpers = []string{"audit/postgres/internal", "step/internal"}

func isTestHelper(dir string) bool {
	return slices.ContainsFunc(testHelpers, func(folder string) bool { return within(dir, folder) })
}

// technologies are the libraries that belong to one kind of folder only.
var technologies = []struct {
	library string
	allowed func(dir string) bool
}{
	{"github.com/jackc/pgx/v5", func(dir string) bool {
		return slices.Contains(strings.Split(dir, "/"), "postgres") || dir == "internal/database" || dir == "internal/database/listen" || dir == "internal/pgembed" || dir == "internal/pgtest"
	}},
	{"github.com/pressly/goose/v3", only("internal/database")},
	{"github.com/open-policy-agent/opa", only("policy/rego", "policy/rego/canonical", "policy/rego/check", "policy/rego/document", "policy/rego/functions", "policy/rego/reads", "policy/rego/slow")},
	{"github.com/coreos/go-oidc/v3", only("identity/bitbucket")},
	{"github.com/go-jose/go-jose/v4", only("identity/bitbucket")},
	{"github.com/elazarl/goproxy", only("proxy/goproxy")},
	{"github.com/miekg/dns", only("proxy/dns")},
	{"github.com/goccy/go-yaml", only("internal/config", "policy/rego/document")},
	{"github.com/prometheus/client_golang", only("internal/admin")},
	{"github.com/spf13/cobra", func(dir string) bool { return strings.HasPrefix(dir, "cmd/") }},
}

func only(dirs ...string) func(string) bool {
	return func(dir string) bool { return slices.Contains(dirs, dir) }
}

// source is one Go file and what it imports.
type source struct {
	file    string
	dir     string
	test    bool
	imports []string
	aliases map[string]string // the name under which a package is imported, by its path
	doc     bool              // has a package comment
	name    string
}

func TestImportTable(t *testing.T) {
	for _, s := range sources(t) {
		for _, imported := range s.imports {
			if why := refuse(s, imported); why != "" {
				t.Errorf("%s imports %s: %s", s.file, imported, why)
			}
		}
	}
}

// TestImportTableIsNeeded: the table refuses what it is there for.
func TestImportTableIsNeeded(t *testing.T) {
	for _, c := range []struct{ dir, imported string }{
		{"proxy", "github.com/elazarl/goproxy"},
		{"proxy", module + "/proxy/frontend"},
		{"proxy", "golang.org/x/sync/errgroup"},
		{"reconcile", module + "/reconcile/postgres"},
		{"reconcile/postgres", module + "/identity/postgres"},
		{"reconcile/bitbucket", module + "/identity/bitbucket"},
		{"internal/bitbucketapi", module + "/identity/bitbucket"},
		{"reconcile", module + "/internal/bitbucketapi"},
		{"policy", module + "/audit"},
		{"audit", module + "/policy"},
		{"audit", module + "/identity"},
		{"identity", "github.com/google/uuid"},
		{"identity/bitbucket", module + "/audit/postgres/writer"},
		{"proxy/frontend", module + "/proxy/goproxy"},
		{"proxy/frontend", "github.com/elazarl/goproxy"},
		{"policy/source", "github.com/open-policy-agent/opa/v1/ast"},
		{"policy/rego/check", module + "/policy/rego"},
		{"internal/config", module + "/policy/rego/check"},
		{"policy/rego/check", module + "/policy/rego/slow"},
		{"policy/manager", module + "/audit/postgres"},
		{"policy/source", module + "/policy/manager"},
		{"internal/admin", module + "/policy/manager"},
		{"audit/evidence", "github.com/jackc/pgx/v5"},
		{"audit/recorded", module + "/audit/evidence"},
		{"audit/evidence/pack", module + "/audit/evidence/report"},
		{"internal/admin", module + "/audit/evidence/report"},
		{"audit/evidence", module + "/audit/postgres"},
		{"audit/postgres", module + "/audit/postgres/writer"},
		{"audit/postgres/writer", module + "/audit/postgres/sealer"},
		{"audit/postgres/sealer", module + "/audit/postgres/reader"},
		{"audit/postgres/reader", module + "/audit/postgres/writer"},
		{"audit/postgres/reader", module + "/audit/postgres/internal/audittest"},
		{"audit/postgres/writer", "github.com/elazarl/goproxy"},
		{"proxy", "github.com/jackc/pgx/v5"},
		{"internal/config", module + "/identity/bitbucket"},
		{"internal/config", module + "/cmd/sallyport"},
		{"internal/config", commands + "cli"},
		{"cmd/sallyport-demo", commands + "cli"},
		{"cmd/sallyport/internal/cli", commands + "components"},
		{"cmd/sallyport/internal/cli", commands + "auditcmd"},
		{"cmd/sallyport/internal/auditdb", commands + "auditcmd"},
		{"cmd/sallyport/internal/auditcmd", commands + "policycmd"},
		{"cmd/sallyport/internal/auditcmd", commands + "server"},
		{"cmd/sallyport/internal/server", commands + "auditcmd"},
		{"cmd/sallyport/internal/cli", module + "/cmd/sallyport"},
		{"cmd/sallyport", "github.com/jackc/pgx/v5"},
		{"cmd/sallyport", module + "/internal/bitbuckettest"},
		{"cmd/sallyport", module + "/internal/bitbuckettest/hook"},
		{"cmd/sallyport", module + "/internal/testenv"},
		{"cmd/sallyport", module + "/internal/bench"},
		{"cmd/sallyport-demo", module + "/internal/tokentest"},
		{"proxy", module + "/internal/proxytest"},
		{"step/forwarder", "github.com/elazarl/goproxy"},
		{"step/forwarder", module + "/proxy/frontend"},
		{"step/session", "github.com/open-policy-agent/opa/v1/rego"},
		{"step/report", "github.com/jackc/pgx/v5"},
		{"step/doctor", module + "/policy"},
		{"cmd/sallyport-step", "github.com/elazarl/goproxy"},
		{"cmd/sallyport-step", module + "/internal/config"},
		{"cmd/sallyport-step", module + "/step/internal/steptest"},
	} {
		if refuse(source{dir: c.dir}, c.imported) == "" {
			t.Errorf("%s may import %s, and must not", c.dir, c.imported)
		}
	}
}

// commands is where the packages of the program sallyport are.
const commands = module + "/cmd/sallyport/internal/"

// shared are the packages that the commands share, and what each of them may import
// of the others.
var shared = map[string][]string{
	"cli":             {},
	"auditdb":         {"cli"},
	"components":      {"cli"},
	"webhookdelivery": {"cli"},
	"webhookserver":   {"cli"},
	"logging":         {},
}

// refuseCommand returns why a package may not import a package below cmd; "" if it
// may. A command package imports the shared packages only; the program's main
// package imports them all.
func refuseCommand(dir, own string) string {
	name, isPart := strings.CutPrefix(module+"/"+own, commands)
	importer, inside := strings.CutPrefix(module+"/"+dir, commands)
	switch {
	case !isPart || !inside && dir != "cmd/sallyport":
		return "nothing imports a command"
	case !inside:
		return ""
	case shared[importer] != nil && !slices.Contains(shared[importer], name):
		return "the commands share this package: it imports none of them"
	case shared[name] == nil && !slices.Contains(compositions[importer], name):
		return "no command package imports another"
	}
	return ""
}

// compositions are command packages that start what another package composes.
var compositions = map[string][]string{"servecmd": {"server"}}

// refuse returns why a file may not import a package; "" if it may.
func refuse(s source, imported string) string {
	for _, tech := range technologies {
		if within(imported, tech.library) && !tech.allowed(s.dir) && !s.test {
			return "this library has a folder of its own"
		}
	}
	own, isOwn := strings.CutPrefix(imported, module+"/")
	if (within(s.dir, "step") || within(s.dir, "cmd/sallyport-step")) && !s.test && !isTestHelper(s.dir) {
		if why := refuseStep(imported, own, isOwn); why != "" {
			return why
		}
	}
	if isOwn {
		switch {
		case strings.HasPrefix(own, "cmd/"):
			return refuseCommand(s.dir, own)
		case s.test || isTestHelper(s.dir):
			return "" // tests may use real neighbors
		case isTestHelper(own):
			return "the helpers of tests are for tests"
		case within(own, "internal/bitbuckettest") && !slices.Contains([]string{"internal/bitbuckettest", "internal/testenv", "internal/tokentest", "cmd/sallyport-demo"}, s.dir),
			own == "internal/tokentest", own == "internal/misspelling",
			own == "internal/testenv" && s.dir != "cmd/sallyport-demo":
			return "the emulated Bitbucket is for tests and the demo"
		case own == "internal/pgtest":
			return "the database for tests is for tests"
		case own == "internal/bench":
			return "the load generator is for tests"
		case own == "internal/proxytest":
			return "the servers and certificates for tests are for tests"
		case isAdapter(own) && !strings.HasPrefix(s.dir, "cmd/") && !slices.Contains(managers[s.dir], own):
			return "only wiring knows the adapters"
		case leaves[own] != nil && !strings.HasPrefix(s.dir, "cmd/") && !slices.Contains(leaves[own], s.dir):
			return "only wiring and the adapters over it import this package"
		case managers[own] != nil && !strings.HasPrefix(s.dir, "cmd/"):
			return "only commands know the managers"
		case slices.Contains(parts, own) && path.Dir(own) != s.dir && !slices.Contains(overParts[s.dir], own):
			return "only the adapter imports its parts"
		}
	}
	allowed, isCore := core[s.dir]
	if !isCore || s.test {
		return ""
	}
	if isStandard(imported) || slices.ContainsFunc(allowed, func(a string) bool { return within(imported, a) }) {
		return ""
	}
	return "this package is types and core: the standard library and " + strings.Join(allowed, ", ") + " only"
}

func isAdapter(own string) bool { return slices.Contains(adapters, own) }

func isStandard(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	return !strings.Contains(first, ".")
}

func within(imported, library string) bool {
	return imported == library || strings.HasPrefix(imported, library+"/")
}

func sources(t *testing.T) []source {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if !holdsModule(t, root) {
		t.Fatalf("%s is not the module's root", root)
	}
	var list []source
	err = filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); rel != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "tools" || name == "bin") {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{
			file: rel, dir: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(file, "_test.go"),
			doc: parsed.Doc != nil, name: parsed.Name.Name, aliases: map[string]string{},
		}
		for _, spec := range parsed.Imports {
			name, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, name)
			if spec.Name != nil {
				s.aliases[name] = spec.Name.Name
			}
		}
		list = append(list, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func holdsModule(t *testing.T, root string) bool {
	t.Helper()
	f, err := os.Open(filepath.Join(root, "go.mod"))
	if err != nil {
		return false
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	return lines.Scan() && lines.Text() == "module "+module
}
