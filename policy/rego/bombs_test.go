package rego

import (
	"strconv"
	"strings"
)

// bomb is a policy that exhausts the process that executes it. Each is refused, and
// nothing else happens.
type bomb struct{ kind, name, rego string }

// chain are rules name0 to nameN. Each refers to the one before by a form with NAME in its
// place.
func chain(name, first, form string, n int) string {
	text := name + "0 := " + first + "\n\n"
	for i := 1; i <= n; i++ {
		text += name + strconv.Itoa(i) + " := " + strings.ReplaceAll(form, "NAME", name+strconv.Itoa(i-1)) + "\n\n"
	}
	return text
}

// nested is the array xN, which holds the one before twice: short to write and to store,
// and endless to walk or compare.
func nested(n int) string {
	return chain("x", `json.unmarshal("[1]")`, "array.concat([NAME], [NAME])", n)
}

// doubled is the text tN, twice as long as the one before.
func doubled(n int) string { return chain("t", `"0123456789abcdef"`, `concat("", [NAME, NAME])`, n) }

// when makes a rule of conditions that are evaluated for the host bomb.example only,
// so that loading does not notice them.
func when(conditions string) string {
	return "allow contains {\"rule\": \"bomb\"} if {\n\tinput.target.host == \"bomb.example\"\n\t" + conditions + "\n}\n"
}

// evaluationBombs explode when they are evaluated.
var evaluationBombs = []bomb{
	{"time", "nested loops", when(`some a in numbers.range(1, 1000); some b in numbers.range(1, 1000); some c in numbers.range(1, 1000); a + b + c == input.target.port + 100000`)},
	{"time", "loops in a function", "f(n) := count([1 | some a in numbers.range(1, n); some b in numbers.range(1, n); a == b + input.target.port])\n\n" + when(`f(100000) == 1`)},
	{"time", "every in every", when(`every a in numbers.range(1, 3000) { every b in numbers.range(1, 3000) { a + b != input.target.port + 100000 } }`)},
	{"numbers.range", "a long range", when(`count(numbers.range(1, 1000000000)) == 1`)},
	{"numbers.range", "a long range in steps", when(`count(numbers.range_step(1, 2000000000, 2)) == 1`)},
	{"stack", "shared arrays compared", nested(20) + when(`z := [v | some v in [x20]]; z[0] == [w | some w in x20]`)},
	{"stack", "arrays that array.concat made", nested(20) + chain("y", `json.unmarshal("[1]")`, "array.concat([NAME], [NAME])", 20) + when(`x20 == y20`)},
	{"stack", "shared arrays in order", nested(24) + chain("y", `json.unmarshal("[1]")`, "array.concat([NAME], [NAME])", 24) + when(`[x24, 1] < [y24, 2]`)},
	{"memory", "json.marshal of a shared array", nested(28) + when(`count(json.marshal(x28)) == 1`)},
	{"memory", "json.marshal_with_options", nested(28) + when(`count(json.marshal_with_options(x28, {"pretty": true})) == 1`)},
	{"memory", "yaml.marshal of a shared array", nested(28) + when(`count(yaml.marshal(x28)) == 1`)},
	{"memory", "a text that doubles", doubled(26) + when(`count(t26) == 1`)},
	{"memory", "base64 of a text that doubles", doubled(22) + when(`count(base64.encode(base64.encode(base64.encode(t22)))) == 1`)},
	{"memory", "hexadecimal of a text that doubles", doubled(22) + when(`count(hex.encode(hex.encode(hex.encode(t22)))) == 1`)},
	{"memory", "split", doubled(22) + when(`count(split(t22, "")) == 1`)},
	{"sprintf", "widths", when(`count(sprintf(concat("", [s | some i in numbers.range(1, 1000); s := "%1000000[1]d"]), [1])) == 1`)},
	{"sprintf", "a shared array", nested(28) + when(`count(sprintf("%v", [x28])) == 1`)},
	{"array.concat", "an array that doubles", chain("a", "[1, 2]", "array.concat(NAME, NAME)", 28) + when(`count(a28) == 1`)},
	{"object.union", "objects that share", chain("o", `json.unmarshal("{}")`, `object.union({"a": NAME}, {"b": NAME})`, 26) + when(`count(json.marshal(o26)) == 1`)},
	{"object.union", "union_n", nested(27) + when(`count(json.marshal(object.union_n([{"a": x27}, {"b": x27}]))) == 1`)},
	{"walk", "all paths of a shared array", nested(28) + when(`count([p | walk(x28, [p, _])]) == 1`)},
	{"comprehension", "a product of four", when(`r := numbers.range(1, 300); count({[a, b, c, d] | some a in r; some b in r; some c in r; some d in r}) == 1`)},
	{"comprehension", "objects by all pairs", when(`r := numbers.range(1, 5000); count({sprintf("%d-%d", [a, b]): a | some a in r; some b in r}) == 1`)},
	{"strings.replace_n", "growth", doubled(12) + when(`count(strings.replace_n({"0": t12, "1": t12, "2": t12}, t12)) == 1`)},
	{"strings.replace_n", "replace", doubled(12) + when(`count(replace(replace(t12, "a", t12), "b", t12)) == 1`)},
	{"template string", "growth", doubled(20) + when(`a := $"{t20}{t20}{t20}{t20}"; b := $"{a}{a}{a}{a}"; c := $"{b}{b}{b}{b}"; count(c) == 1`)},
	{"regex", "a pattern of a million states", when(`regex.match(concat("", ["(((", "a{1,30}", "){1,30}){1,30}){5}", "x"]), input.target.host)`)},
	{"regex", "replacement that grows", doubled(16) + when(`count(regex.replace(regex.replace(t16, ".", "$0$0$0$0$0$0$0$0$0$0"), ".", "$0$0$0$0$0$0$0$0$0$0")) == 1`)},
	{"regex", "all matches of a long text", doubled(20) + when(`count(regex.find_all_string_submatch_n("(((.)))", t20, -1)) == 1`)},
	{"regex", "patterns with the input in them", when(`count([i | some i in numbers.range(1, 2000); regex.match(sprintf("((%s%d){30}){30}", [input.target.host, i]), "x")]) == 1`)},
	{"glob", "alternatives", when(`p := concat("", [s | some i in numbers.range(1, 2000); s := sprintf("{a%d,b%d,*c}*", [i, i])]); count([i | some i in numbers.range(1, 100000); glob.match(sprintf("%s%d", [p, i]), [], p)]) == 1`)},
	{"graphql", "a deep query", when(`q := concat("", [s | some i in numbers.range(1, 400000); s := "{a"]); graphql.parse_query(q)`)},
	{"graphql", "a deep schema", when(`q := concat("", [s | some i in numbers.range(1, 400000); s := "["]); graphql.parse_schema(concat("", ["type Q { a: ", q, "Int }"]))`)},
	{"cidr", "contains_matches", when(`a := [sprintf("10.%d.%d.0/24", [i, j]) | some i in numbers.range(0, 250); some j in numbers.range(0, 8)]; count(net.cidr_contains_matches(a, a)) == 1`)},
	{"cidr", "merge", when(`a := [sprintf("10.%d.%d.1/32", [i, j]) | some i in numbers.range(0, 250); some j in numbers.range(0, 250)]; count(net.cidr_merge(a)) == 1`)},
	{"crypto", "hashes of a long text", doubled(20) + when(`count([h | some i in numbers.range(1, 500); h := crypto.sha256(sprintf("%s%d", [t20, i]))]) == 1`)},
	{"crypto", "hmac of a long text", doubled(20) + when(`count([h | some i in numbers.range(1, 500); h := crypto.hmac.sha512(t20, sprintf("%d", [i]))]) == 1`)},
	{"numbers", "squares of squares", chain("n", "123456789", "NAME * NAME", 30) + when(`n30 > 1`)},
	{"numbers", "an exponent", when(`to_number("1e99999999") + input.target.port > 1`)},
	{"numbers", "format_int", chain("n", "123456789", "NAME * NAME", 24) + when(`count(format_int(n24, 2)) == 1`)},
	{"graph", "reachable_paths", when(`g := {sprintf("%d", [i]): [sprintf("%d", [j]) | some j in numbers.range(1, 12); j != i] | some i in numbers.range(1, 12)}; count(graph.reachable_paths(g, ["1"])) == 1`)},
	{"json", "filter", nested(27) + when(`count(json.marshal(json.patch({"a": x27}, [{"op": "add", "path": "b", "value": x27}]))) == 1`)},
	{"json", "unmarshal of a long text", when(`q := concat("", [s | some i in numbers.range(1, 3000000); s := "[1],"]); count(json.unmarshal(concat("", ["[", q, "1]"]))) == 1`)},
	{"json", "unmarshal of YAML", when(`q := concat("\n", [s | some i in numbers.range(1, 300000); s := sprintf("- {a%d: [1, 2, 3]}", [i])]); count(yaml.unmarshal(q)) == 1`)},
	{"json", "aliases of YAML", when(`count(json.marshal(yaml.unmarshal("a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f]\nh: &h [*g,*g,*g,*g,*g,*g,*g,*g,*g]\n"))) == 1`)},
	{"sets", "sort", when(`count(sort([sprintf("%d", [1000000 - i]) | some i in numbers.range(1, 1000000)])) == 1`)},
	{"sets", "intersection", when(`r := {i | some i in numbers.range(1, 400000)}; count(intersection({r, {i | some i in numbers.range(1, 400000)}})) == 1`)},
	{"output", "many entries", manyRules(5000)},
	{"output", "long messages", doubled(24) + "allow contains {\"rule\": \"bomb\", \"message\": t24} if input.target.host == \"bomb.example\"\n\n" + "allow contains {\"rule\": \"b2\", \"message\": sprintf(\"%d %s\", [i, t6])} if {\n\tinput.target.host == \"bomb.example\"\n\tsome i in numbers.range(1, 900)\n}\n"},
	{"output", "an error that quotes a long text", doubled(22) + when(`net.cidr_contains(t22, "x")`)},
}

func manyRules(n int) string {
	text := ""
	for i := range n {
		text += "allow contains {\"rule\": \"r" + strconv.Itoa(i) + "\"} if input.target.host == \"bomb.example\"\n\n"
	}
	return text
}

// loadBombs explode before anything is evaluated for a request: when a policy is
// parsed, checked, compiled or tested, or a document is read. at is the beginning of
// the place that the error names.
var loadBombs = []struct{ kind, name, files, at string }{
	{"test file", "shared arrays compared", withTest(nested(20)+chain("y", `json.unmarshal("[1]")`, "array.concat([NAME], [NAME])", 20), `x20 == y20`), bombTest},
	{"test file", "json.marshal of a shared array", withTest(nested(28), `count(json.marshal(x28)) == 1`), bombTest},
	{"test file", "sprintf with widths", withTest("", `count(sprintf(concat("", [s | some i in numbers.range(1, 1000); s := "%1000000[1]d"]), [1])) == 1`), bombTest},
	{"test file", "a deep query of GraphQL", withTest("", `graphql.parse_query(concat("", [s | some i in numbers.range(1, 400000); s := "{a"]))`), bombTest},
	{"test file", "no end", withTest("", `some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a + b == -1`), bombTest},
	{"test file", "prints without end", withTest("", `count([i | some i in numbers.range(1, 3000000); print("0123456789012345678901234567890123456789012345678901234567890123456789")]) == 1`), bombTest},
	{"test file", "a text that doubles", withTest(doubled(26), `count(t26) == 1`), bombTest},
	{"warm-up", "shared arrays compared", repo(nested(20) + chain("y", `json.unmarshal("[1]")`, "array.concat([NAME], [NAME])", 20) + "deny contains {\"rule\": \"bomb\"} if x20 == y20"), bombRules},
	{"warm-up", "loops without end", repo("deny contains {\"rule\": \"bomb\"} if { some a in numbers.range(1, 100000); some b in numbers.range(1, 100000); a + b == -1 }"), bombRules},
	{"warm-up", "a text that doubles", repo(doubled(26) + "deny contains {\"rule\": \"bomb\"} if count(t26) == 1"), bombRules},
	{"types", "arrays of arrays", repo(chain("x", "[1]", "[NAME, NAME]", 28) + "deny contains {\"rule\": \"bomb\"} if x28 == 1"), bombRules},
	{"types", "objects of objects", repo(chain("x", `{"a": 1}`, `{"a": NAME, "b": NAME}`, 28) + "deny contains {\"rule\": \"bomb\"} if x28.a.b == 1"), bombRules},
	{"parser", "brackets", repo("p := " + strings.Repeat("[", 300_000)), bombRules},
	{"parser", "brackets with an end", repo("p := " + strings.Repeat("[", 100_000) + strings.Repeat("]", 100_000)), bombRules},
	{"parser", "braces", repo("p := " + strings.Repeat("{1:", 200_000)), bombRules},
	{"parser", "negations", repo("p if " + strings.Repeat("not ", 200_000)), bombRules},
	{"parser", "calls", repo("p := " + strings.Repeat("f(", 300_000)), bombRules},
	{"parser", "comprehensions", repo("p := " + strings.Repeat("[x|x:=", 100_000)), bombRules},
	{"parser", "template strings", repo("p := " + strings.Repeat("$\"{", 100_000)), bombRules},
	{"parser", "every in every", repo("p if " + strings.Repeat("every a in [1] { ", 50_000)), bombRules},
	{"parser", "a reference", repo("p := input" + strings.Repeat("[input", 150_000)), bombRules},
	{"compiler", "comprehensions in comprehensions", repo("deny contains {\"rule\": \"bomb\"} if count(" + strings.Repeat("[x | x := ", 3000) + "1" + strings.Repeat("]", 3000) + ") == 7"), bombRules},
	{"compiler", "one rule with many expressions", repo("deny contains {\"rule\": \"bomb\"} if {\n" + manyExpressions(12000) + "}"), bombRules},
	{"YAML", "deep lists", "-- data/repositories/acme/tools/bomb.yaml --\na: " + strings.Repeat("[", 100_000) + "\n", bombDocument},
	{"YAML", "deep blocks", "-- data/repositories/acme/tools/bomb.yaml --\na:\n" + deepBlocks(3000), bombDocument},
	{"YAML", "aliases", "-- data/repositories/acme/tools/bomb.yaml --\na: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n", bombDocument},
	{"YAML", "dashes", "-- data/repositories/acme/tools/bomb.yaml --\na:\n" + strings.Repeat("- ", 100_000) + "x\n", bombDocument},
	{"YAML", "question marks", "-- data/repositories/acme/tools/bomb.yaml --\n" + strings.Repeat("? ", 100_000) + "x\n", bombDocument},
	{"YAML", "quotes without an end", "-- data/repositories/acme/tools/bomb.yaml --\na: " + strings.Repeat("'\"", 100_001) + "\n", bombDocument},
	{"JSON", "deep lists", "-- data/repositories/acme/tools/bomb.json --\n{\"a\": " + strings.Repeat("[", 1_000_000) + "}\n", bombDocument},
	{"JSON", "deep objects", "-- data/repositories/acme/tools/bomb.json --\n" + strings.Repeat(`{"a":`, 300_000) + "1\n", bombDocument},
	{"JSON", "a long text without an end", "-- data/repositories/acme/tools/bomb.json --\n{\"a\": \"" + strings.Repeat("\\u0041", 300_000), bombDocument},
}

const (
	bombTest     = "repositories/acme/tools/a"
	bombRules    = "repositories/acme/tools/a.rego:"
	bombDocument = "data/repositories/acme/tools/bomb."
)

// withTest is a repository with rules and a test of them.
func withTest(rules, condition string) string {
	return repo("allow contains {\"rule\": \"x\"}") + "-- repositories/acme/tools/a_test.rego --\npackage sallyport.repository_test[\"acme/tools\"]\n\n" + rules + "test_bomb if { " + condition + " }\n"
}

func manyExpressions(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString("\tv" + strconv.Itoa(i) + " := input.target.port + " + strconv.Itoa(i) + "\n\tv" + strconv.Itoa(i) + " != -1\n")
	}
	return text.String()
}

func deepBlocks(n int) string {
	var text strings.Builder
	for i := range n {
		text.WriteString(strings.Repeat(" ", i+1) + "a:\n")
	}
	return text.String()
}
