package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// reached are the packages whose code runs for a client's request, and which so
// may remember something for each key that a client chooses.
var reached = []string{"proxy", "proxy/frontend", "proxy/goproxy", "proxy/dns", "identity/bitbucket", "internal/bitbucketapi", "identity/postgres", "internal/eviction", "internal/fair", "internal/totals", "internal/selftest", "webhook", "webhook/listener", "webhook/agent", "step/forwarder", "step/upstream"}

// registries are the maps that live longer than a request: what bounds each, and
// how it shrinks. A new one needs a line here, and a test that it shrinks.
var registries = map[string]string{
	"proxy.throttle.counts":                        "4,096 keys, made again each second: proxy.TestThrottleIsBounded",
	"proxy.byteQuotas.steps":                       "100,000 verified steps, forgotten after a day: proxy.TestQuotasAreBounded",
	"proxy.byteQuotas.repositories":                "those of steps: proxy.TestQuotasAreBounded",
	"proxy.Tracker.open":                           "limits.*.tunnels; an entry goes with its tunnel: e2e.TestSoak",
	"proxy.Tracker.requests":                       "limits.*.tunnels; an entry goes with its request",
	"proxy.fairQueue.shares":                       "repositories with open tunnels that wait to be evaluated again; an entry goes when its queue is empty",
	"proxy.failureLog.kinds":                       "the messages, constants of proxy; an entry goes after a minute without a failure",
	"proxy.repeats.repositories":                   "those of steps: proxy.TestRepeatsAreBounded",
	"proxy.repeats.steps":                          "16,384 verified steps that were refused in the last ten minutes: proxy.TestRepeatsAreBounded",
	"proxy.stepRefusals.keys":                      "128 of a step, 16,384 of all: proxy.TestRepeatsAreBounded",
	"internal/totals.Totals.counts":                "the reasons, a closed vocabulary",
	"internal/totals.Sources.counts":               "1,024 networks and one for each receiver, for a minute: internal/totals.TestSourcesUnderAFlood",
	"webhook.node.fields":                          "one body, until its response",
	"webhook.ConfiguredActions.Routes":             "the configuration",
	"webhook/listener.Config.Handlers":             "the configuration",
	"webhook/listener.Config.Prefixes":             "the configuration",
	"webhook/listener.connections.clients":         "webhooks.listener.max_connections; an address goes with its last connection: webhook/listener.TestConnectionsAreBounded",
	"webhook/listener.Rates.buckets":               "8,192 addresses; one goes when its bucket is full again: webhook/listener.TestRatesAreBounded",
	"proxy/frontend.Server.listeners":              "the configuration",
	"proxy/frontend.Server.conns":                  "limits.max_connections",
	"proxy/frontend.Server.allowed":                "the configuration",
	"internal/eviction.Limiter.clients":            "half of limits.max_connections, or webhooks.listener.max_connections; an address goes with its last connection",
	"proxy/goproxy.pools.repositories":             "repositories with requests, until they are quiet: proxy/goproxy.TestInventedHosts",
	"proxy/dns.Resolver.flights":                   "limits.*.max_concurrent_lookups: proxy/dns.TestSilentNamesOfAnotherRepository",
	"proxy/dns.Resolver.queued":                    "limits.*.max_queued_requests: proxy/dns.TestSilentNamesOfAnotherRepository",
	"proxy/dns.cache.entries":                      "10,000 names: proxy/dns.TestCacheIsBounded, proxy/dns.TestCacheShares",
	"proxy/dns.cache.owners":                       "repositories with entries: proxy/dns.TestCacheShares",
	"proxy/dns.health.failed":                      "64 servers",
	"proxy/dns.settings.hosts":                     "the system's hosts file",
	"identity/bitbucket.names.known":               "200,000 names that Bitbucket's API knows",
	"identity/bitbucket.names.owners":              "those of known",
	"identity/bitbucket.names.flights":             "repositories and deployments that signed tokens name; an entry goes with its lookup: identity/bitbucket.TestNameShares",
	"identity/bitbucket.names.stale":               "those of known",
	"identity/bitbucket.names.budgets":             "4,096 repositories: identity/bitbucket.TestNameShares",
	"identity/bitbucket.keySet.unknown":            "1,024 key ids of 256 bytes, for half a minute",
	"identity/bitbucket.keyState.keys":             "the keys that the issuer publishes, of a document of at most 1 MiB",
	"identity/bitbucket.shard.young":               "identity.cache, 10,000 verified tokens in two generations",
	"identity/bitbucket.shard.old":                 "the same",
	"identity/bitbucket.unadmitted.until":          "4,096 ended tokens: identity/bitbucket.TestUnadmittedIsBounded",
	"identity/bitbucket.Authenticator.issuers":     "the configuration",
	"identity/postgres.recent.young":               "two generations of verified tokens",
	"identity/postgres.recent.old":                 "the same",
	"identity/postgres.backlog.latest":             "10,000 entries that wait to be written",
	"identity/postgres.revocationSet.steps":        "revocations in force, by an operator",
	"identity/postgres.revocationSet.repositories": "the same",
	"internal/fair.Limiter.repositories":           "repositories that hold or wait, and for two seconds after: internal/fair.TestForgets, internal/fair.TestShrinks",
	"step/forwarder.denials.known":                 "1,000 denials, until their time has passed: step/forwarder.TestMemoryEnds",
	"step/forwarder.statistics.targets":            "2,000 targets: step/forwarder.TestReportIsBounded",
	"step/forwarder.statistics.refusals":           "1,000 refusals: step/forwarder.TestReportIsBounded",
	"step/forwarder.Forwarder.listeners":           "the configuration",
	"step/forwarder.Forwarder.conns":               "Config.MaxConnections, and the stream of each",
	"step/upstream.proxyList.down":                 "the configuration",
	"webhook/agent.failures.counts":                "4,096 addresses, made again each minute: webhook/agent.TestFailuresAreBounded",
	"webhook/agent.failures.rejected":              "4,096 credentials that were not valid, made again each minute: webhook/agent.TestFailuresAreBounded",
	"webhook/agent.failures.recent":                "4,096 credentials that were valid: webhook/agent.TestFailuresAreBounded",
	"webhook/agent.holds.leases":                   "the tasks of 4,096 claims: webhook/agent.TestHoldsAreBounded",
	"webhook/agent.holds.requests":                 "the credentials that operators created and that were used",
	"webhook/agent.Server.endpoints":               "the configuration",
	"webhook/agent.Client.leases":                  "tasks that this agent holds: 8; an entry ends with its lease",
	"internal/fair.repository.steps":               "the same",
}

// notOfClients are maps in these packages that no client's request adds to.
var notOfClients = []string{
	"identity/bitbucket.Inspector.unread", "identity/bitbucket.probe.failed",
	"identity/postgres.watcher.reported",
	"internal/selftest.Status.Counts", "proxy.localAddresses.set",
}

// TestRegistriesAreListed: no package that a client's request reaches has a map
// field that is not in the table with its bound.
func TestRegistriesAreListed(t *testing.T) {
	found := map[string]bool{}
	for _, dir := range reached {
		for name := range mapFields(t, filepath.Join("..", "..", dir)) {
			found[dir+"."+name] = true
		}
	}
	listed := maps.Clone(registries)
	for _, name := range notOfClients {
		listed[name] = "no client's"
	}
	report(t, registryProblems(found, listed))
	if len(found) < 20 {
		t.Errorf("the search is broken: %v", slices.Sorted(maps.Keys(found)))
	}
}

// TestRegistriesAreListedIsNeeded: a new map is found, and one that is gone.
func TestRegistriesAreListedIsNeeded(t *testing.T) {
	dir := t.TempDir()
	const code = "package p\n\ntype registry struct{ byClient map[string]int }\n"
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, registryProblems(mapFields(t, dir), nil))
	refused(t, registryProblems(nil, map[string]string{"registry.byClient": "the configuration"}))
}

func registryProblems(found map[string]bool, listed map[string]string) (problems []string) {
	for name := range found {
		if listed[name] == "" {
			problems = append(problems, name+" is a map: state in registries what bounds it, and test that it shrinks")
		}
	}
	for name := range listed {
		if !found[name] {
			problems = append(problems, name+" is listed, and there is no such map")
		}
	}
	return problems
}

// mapFields are the fields of a package's structs whose type is a map.
func mapFields(t *testing.T, dir string) map[string]bool {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, entry.Name()), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			s, ok := spec.Type.(*ast.StructType)
			if !ok {
				return true
			}
			for _, f := range s.Fields.List {
				if _, isMap := f.Type.(*ast.MapType); !isMap {
					continue
				}
				for _, name := range f.Names {
					found[spec.Name.Name+"."+name.Name] = true
				}
			}
			return true
		})
	}
	return found
}
