// Package functions defines the functions that a policy may call: OPA's builtins that are
// pure functions of their arguments, and those of the shipped library that are implemented
// in Go. It bounds the memory of compiled patterns. Safe for concurrent use.
package functions

import (
	"slices"
	"strings"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
)

// removed are the reasons for which a policy does not get a builtin, by name or, with a
// dot at the end, by family.
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
	"io.jwt.":                      "the input holds no token: it is verified before policy is evaluated",
	"crypto.x509.parse_and_verify": irreproducible, // reads the clock and the system's roots
	"bits.":                        "one shift can allocate all memory before any deadline is checked",
	"net.cidr_expand":              "one short prefix can take all memory: use net.cidr_contains",
}

const (
	reachesOutside = "it reaches outside while a decision waits: put what you need under data/"
	irreproducible = "its result differs from one time to the next, so the decision could not be evaluated again"
)

// WhyRemoved returns why a policy does not get a builtin; "" if it does, or if there is
// none of the name.
func WhyRemoved(name string) string {
	if why, ok := removed[name]; ok {
		return why
	}
	for prefix, why := range removed {
		if strings.HasSuffix(prefix, ".") && strings.HasPrefix(name, prefix) || prefix == "crypto.x509.parse_and_verify" && strings.HasPrefix(name, prefix) {
			return why
		}
	}
	if ast.BuiltinMap[name] != nil && !isDeprecated(name) && !slices.Contains(allowed, name) {
		return notNeeded
	}
	return ""
}

func isDeprecated(name string) bool {
	b := ast.BuiltinMap[name]
	return b != nil && b.IsDeprecated()
}

// allowed lists the builtins of a policy. A builtin of a later version of OPA is not
// available until it is reviewed and listed. Left out are builtins that reach outside or
// cannot be repeated, and those that egress rules do not need and that make a large result
// of a small argument (graphql, graph, YAML, templates, keys and certificates). Workers
// bound what the listed ones can do.
var allowed = strings.Fields(`
	abs and array.concat array.flatten array.reverse array.slice assign ceil concat contains count div endswith eq equal
	base64.decode base64.encode base64.is_valid base64url.decode base64url.encode base64url.encode_no_pad hex.decode hex.encode
	crypto.md5 crypto.sha1 crypto.sha256 floor format_int glob.match glob.quote_meta gt gte indexof indexof_n
	internal.member_2 internal.member_3 internal.print internal.template_string internal.test_case intersection
	is_array is_boolean is_null is_number is_object is_set is_string
	json.filter json.is_valid json.marshal json.remove json.unmarshal lower lt lte max min minus mul neq
	net.cidr_contains net.cidr_intersects net.cidr_is_valid net.cidr_merge numbers.range numbers.range_step
	object.filter object.get object.keys object.remove object.subset object.union object.union_n or plus print product
	regex.find_all_string_submatch_n regex.find_n regex.is_valid regex.match regex.replace regex.split regex.template_match
	rem replace round semver.compare semver.is_valid sort split sprintf startswith
	strings.any_prefix_match strings.any_suffix_match strings.count strings.replace_n strings.reverse strings.split_n substring sum
	time.add_date time.clock time.date time.diff time.format time.now_ns time.parse_duration_ns time.parse_ns time.parse_rfc3339_ns time.weekday
	to_number trim trim_left trim_prefix trim_right trim_space trim_suffix type_name union units.parse units.parse_bytes upper
	uri.is_valid uri.parse urlquery.decode urlquery.decode_object urlquery.encode urlquery.encode_object uuid.parse walk
`)

// notNeeded is the reason for a builtin without one of its own.
const notNeeded = "rules about destinations do not need it: docs/policy-reference.md lists the functions that a policy may call"

// Capabilities are what a policy may use: a pure function of its input, its data and the
// decision's time. time.now_ns stays, because it returns the decision's time. Shared and
// read-only.
var Capabilities = sync.OnceValue(func() *ast.Capabilities {
	caps := ast.CapabilitiesForThisVersion()
	caps.Builtins = slices.DeleteFunc(caps.Builtins, func(b *ast.Builtin) bool {
		// A deprecated one has an error of its own, which names its replacement.
		listed := slices.Contains(allowed, b.Name) || isDeprecated(b.Name)
		return !listed || b.Nondeterministic && b.Name != ast.NowNanos.Name
	})
	// Rego v1 needs no future keyword. One that OPA adds would be syntax that the
	// checks of this package do not know.
	caps.FutureKeywords = nil
	caps.AllowNet = []string{}
	return caps
})
