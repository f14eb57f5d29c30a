package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// relaxation is a key of an allow that relaxes the check of the ClientHello.
type relaxation struct {
	key     string
	strict  ast.Value // with this value, nothing is relaxed
	givesUp string
	hint    string
}

// relaxations explain what each relaxation gives up.
var relaxations = []relaxation{
	{"protocol", ast.String("tls"), `protocol: "any" gives up the check of the tunnel's first bytes: any protocol passes, and a TLS client can name any host that the target's address serves`,
		`if the client speaks TLS, use "ech": true or "no_sni": true instead`},
	{"ech", ast.Boolean(false), `ech: true gives up the proof of the server name: the outer name must be the target, and an encrypted inner name can be another host that the target's address serves`,
		"prefer to disable ECH in the client"},
	{"no_sni", ast.Boolean(false), `no_sni: true gives up the server name of a client that sends none: the target's address serves its default host; a wrong name is still refused`,
		"prefer a host name that the client can send, without an underscore"},
}

// Relaxations returns a note for each allow that relaxes the check of the ClientHello, with
// what it gives up. A value that is not a literal counts as a relaxation. Files that do not
// parse are left to [Check].
func Relaxations(snapshot *policy.Snapshot) Errors {
	var notes Errors
	for _, f := range snapshot.Files {
		if !strings.HasSuffix(f.Path, ".rego") || isTestFile(f.Path) || domainOf(f.Path) != egress {
			continue
		}
		module, err := (&loader{}).parse(source{path: f.Path, content: f.Content})
		if err != nil {
			continue
		}
		for _, rule := range module.Rules {
			notes = append(notes, relaxationsOf(rule)...)
		}
	}
	return notes
}

func relaxationsOf(rule *ast.Rule) (notes Errors) {
	if string(rule.Head.Name) != setAllow {
		return nil
	}
	entry, ok := keyObject(rule.Head)
	if !ok {
		return nil
	}
	for _, r := range relaxations {
		value := entry.Get(ast.StringTerm(r.key))
		if value == nil || value.Value.Compare(r.strict) == 0 {
			continue
		}
		message := r.givesUp
		if id := entry.Get(ast.StringTerm("rule")); id != nil {
			message = "rule " + id.String() + ": " + message
		}
		notes = append(notes, at(value.Location, rule.Location, message, r.hint))
	}
	return notes
}
