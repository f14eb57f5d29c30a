package rego

import (
	"slices"

	"github.com/open-policy-agent/opa/v1/ast"
)

// part is the rules of a unit in one domain. They are compiled together, and apart from
// the unit's other rules. The checks of a unit are those of all its parts.
type part struct {
	*unit
	domain *domain
	files  []source // those of the unit's sources that are in the domain
}

// part returns the rules of a domain; it has no files if the unit has none there.
func (u *unit) part(d *domain) *part {
	p := &part{unit: u, domain: d}
	for _, s := range u.sources {
		if domainOf(s.path) == d {
			p.files = append(p.files, s)
		}
	}
	return p
}

// parts are the parts that have files, in the order of [domains].
func (u *unit) parts() []*part {
	var list []*part
	for _, d := range domains {
		if p := u.part(d); len(p.files) > 0 {
			list = append(list, p)
		}
	}
	return list
}

// decides reports whether a unit has rules of a domain.
func (u *unit) decides(d *domain) bool {
	return slices.ContainsFunc(u.sources, func(s source) bool { return !s.test && domainOf(s.path) == d })
}

// sets are the names of the partial sets that the part may define.
func (p *part) sets() []string {
	if p.isRepository() {
		return p.domain.repositorySets
	}
	return p.domain.organizationSets
}

// pkg is the package of each deciding file of the part.
func (p *part) pkg() ast.Ref { return p.packageRef("") }

// testPkg is the package that test files may have instead.
func (p *part) testPkg() ast.Ref { return p.packageRef("_test") }

func (p *part) packageRef(suffix string) ast.Ref {
	root := ast.Ref{ast.DefaultRootDocument, ast.StringTerm("sallyport")}
	if p.isRepository() {
		return root.Append(ast.StringTerm(p.domain.repositoryPackage + suffix)).Append(ast.StringTerm(p.repository))
	}
	return root.Append(ast.StringTerm(p.domain.folder + suffix))
}
