package rego

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// removed lists the builtins that a policy does not get, by name or, with a dot
// at the end, by family, and why. Whatever OPA itself marks as nondeterministic
// is removed too, so that a builtin of a later version does not slip in.
var removed = map[string]string{
	"http.":                        reachesOutside,
	"net.lookup_ip_addr":           reachesOutside,
	"opa.runtime":                  "it reads the server's environment and configuration",
	"rand.":                        irreproducible,
	"uuid.rfc4122":                 irreproducible,
	"json.match_schema":            reachesOutside, // a schema's $ref is fetched
	"json.verify_schema":           reachesOutside,
	"providers.":                   "it signs requests with keys, and a policy holds none",
	"rego.":                        "a policy does not read policies",
	"trace":                        "nothing is traced while traffic is decided: use print in a test",
	"io.jwt.":                      "the input holds no token: it was verified before policy is asked",
	"crypto.x509.parse_and_verify": irreproducible, // reads the clock and the system's roots
	"bits.":                        "one shift can take all memory before any deadline is looked at",
	"net.cidr_expand":              "one short prefix can take all memory: use net.cidr_contains",
}

const (
	reachesOutside = "it reaches outside while a decision waits: put what you need under data/"
	irreproducible = "its answer differs from one time to the next, so the decision could not be evaluated again"
)

// whyRemoved explains why a policy does not get a builtin, or returns "".
func whyRemoved(name string) string {
	if why, ok := removed[name]; ok {
		return why
	}
	for prefix, why := range removed {
		if strings.HasSuffix(prefix, ".") && strings.HasPrefix(name, prefix) || prefix == "crypto.x509.parse_and_verify" && strings.HasPrefix(name, prefix) {
			return why
		}
	}
	return ""
}

// capabilities are what a policy may use: a pure function of its input, its data
// and the decision's time. time.now_ns stays: the evaluation is given the
// decision's time and returns that. Shared and read-only.
var capabilities = sync.OnceValue(func() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		return whyRemoved(b.Name) != "" || b.Nondeterministic && b.Name != ast.NowNanos.Name
	})
	// Rego v1 needs no future keyword, and each one that OPA adds would be
	// syntax that the checks of this package have not seen.
	caps.FutureKeywords = nil
	caps.AllowNet = []string{}
	return caps
})
