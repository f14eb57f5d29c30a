package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
)

// Undelegated returns a warning for each repository whose folder has an allow that never
// counts, because no rule of the organization's delegate can match the repository. A rule
// that names another repository does not match it. Any other condition may match: the
// warnings are certain, and not complete. Files that do not parse are left to [Check].
func Undelegated(snapshot *policy.Snapshot) Errors {
	d, err := readDelegation(snapshot)
	if err != nil {
		return nil
	}
	var warnings Errors
	for _, folder := range d.folders {
		if anyMayMatch(d.delegates, folder) {
			continue
		}
		field, name := "full_name", folder
		if _, base, _ := strings.Cut(folder, "/"); uuid.IsCanonical(base) {
			field, name = "uuid", base
		}
		warnings = append(warnings, at(d.allows[folder].Location, nil, "the allow never counts: no rule of delegate matches "+folder,
			`add to egress/: delegate contains {"rule": "own-rules"} if input.principal.repository.`+field+` == "`+name+`"`))
	}
	return warnings
}

// delegation is what decides whether the allows of folders count.
type delegation struct {
	delegates []*ast.Rule          // of the organization
	folders   []string             // of repositories with an allow, in the order of their files
	allows    map[string]*ast.Rule // the first allow of each folder
}

func readDelegation(snapshot *policy.Snapshot) (*delegation, error) {
	d := &delegation{allows: map[string]*ast.Rule{}}
	for _, f := range snapshot.Files {
		parts := strings.Split(f.Path, "/")
		folder := "" // the organization's
		switch {
		case !strings.HasSuffix(f.Path, ".rego") || isTestFile(f.Path):
			continue
		case len(parts) == 2 && parts[0] == egress.folder:
		case len(parts) == 4 && parts[0] == "repositories":
			folder = parts[1] + "/" + parts[2]
		default:
			continue
		}
		module, err := (&loader{}).parse(source{path: f.Path, content: f.Content})
		if err != nil {
			return nil, err
		}
		d.add(folder, module.Rules)
	}
	return d, nil
}

func (d *delegation) add(folder string, rules []*ast.Rule) {
	for _, rule := range rules {
		switch name := string(rule.Head.Name); {
		case folder == "" && name == setDelegate:
			d.delegates = append(d.delegates, rule)
		case folder != "" && name == setAllow && d.allows[folder] == nil:
			d.allows[folder] = rule
			d.folders = append(d.folders, folder)
		}
	}
}

// anyMayMatch reports whether one of the rules could match a step of the repository of a
// folder.
func anyMayMatch(rules []*ast.Rule, folder string) bool {
	for _, rule := range rules {
		other := false
		for _, e := range rule.Body {
			other = other || namesOther(e, folder)
		}
		if !other {
			return true
		}
	}
	return false
}

// namesOther reports whether a condition compares the step's repository with another one.
func namesOther(e *ast.Expr, folder string) bool {
	if e.Negated || len(e.With) > 0 || !e.IsEquality() && (!e.IsCall() || e.Operator().String() != "equal") || len(e.Operands()) != 2 {
		return false
	}
	a, b := e.Operand(0), e.Operand(1)
	if _, ok := a.Value.(ast.String); ok {
		a, b = b, a
	}
	name, ok := b.Value.(ast.String)
	if !ok {
		return false
	}
	_, base, _ := strings.Cut(folder, "/")
	isUUID := uuid.IsCanonical(base)
	switch a.String() {
	case "input.principal.repository.full_name":
		return !isUUID && string(name) != folder
	case "input.principal.repository.uuid":
		return isUUID && string(name) != base
	}
	return false
}
