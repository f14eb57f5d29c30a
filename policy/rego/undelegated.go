package rego

import (
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy"
)

// Undelegated returns a warning for each repository whose folder has an allow that never
// counts, because no rule of the organization's delegate can match the repository. A rule
// that names another repository does not match it. Any other condition may match: the
// warnings are certain, and not complete. Files that do not parse are left to [Check].
func Undelegated(snapshot *policy.Snapshot) Errors {
	var delegates []*ast.Rule
	allows := map[string]*ast.Rule{} // the first of each folder
	var folders []string
	for _, f := range snapshot.Files {
		parts := strings.Split(f.Path, "/")
		isOrganization, isRepository := len(parts) == 2 && parts[0] == "egress", len(parts) == 4 && parts[0] == "repositories"
		if !strings.HasSuffix(f.Path, ".rego") || isTestFile(f.Path) || !isOrganization && !isRepository {
			continue
		}
		module, err := (&loader{}).parse(source{path: f.Path, content: f.Content})
		if err != nil {
			return nil
		}
		for _, rule := range module.Rules {
			name := string(rule.Head.Name)
			switch {
			case isOrganization && name == setDelegate:
				delegates = append(delegates, rule)
			case isRepository && name == setAllow:
				folder := parts[1] + "/" + parts[2]
				if allows[folder] == nil {
					allows[folder] = rule
					folders = append(folders, folder)
				}
			}
		}
	}
	var warnings Errors
	for _, folder := range folders {
		if !anyMayMatch(delegates, folder) {
			rule := allows[folder]
			field, name := "full_name", folder
			if _, uuid, _ := strings.Cut(folder, "/"); bareUUID.MatchString(uuid) {
				field, name = "uuid", uuid
			}
			warnings = append(warnings, at(rule.Location, nil, "the allow never counts: no rule of delegate matches "+folder,
				`add to egress/: delegate contains {"rule": "own-rules"} if input.principal.repository.`+field+` == "`+name+`"`))
		}
	}
	return warnings
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
	isUUID := bareUUID.MatchString(base)
	switch a.String() {
	case "input.principal.repository.full_name":
		return !isUUID && string(name) != folder
	case "input.principal.repository.uuid":
		return isUUID && string(name) != base
	}
	return false
}
