package check

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

// Unread finds rules that no set of the unit reads, directly or through other
// rules. Such a rule has no effect: usually it is a set with a misspelled name, and its
// control is not in force. Rules that only tests read are fixtures and belong in a
// test file.
func Unread(u *Unit) []Finding {
	rules := map[string][]*ast.Rule{}
	var names []string // in the order of files and lines
	for _, path := range slices.Sorted(maps.Keys(u.Resolved)) {
		for _, rule := range u.Resolved[path].Rules {
			name := RuleName(rule)
			if rules[name] == nil {
				names = append(names, name)
			}
			rules[name] = append(rules[name], rule)
		}
	}
	read := map[string]bool{}
	next := slices.Clone(u.Sets)
	for len(next) > 0 {
		name := next[len(next)-1]
		next = next[:len(next)-1]
		if read[name] {
			continue
		}
		read[name] = true
		for _, rule := range rules[name] {
			ast.WalkRefs(rule, func(ref ast.Ref) bool {
				switch name, whole, ok := u.ownName(ref); {
				case whole:
					next = append(next, names...)
				case ok && !read[name]:
					next = append(next, name)
				}
				return false
			})
		}
	}
	var found []Finding
	for _, name := range names {
		if read[name] || rules[name][0].Location == nil {
			continue
		}
		found = append(found, at(rules[name][0].Head.Location, rules[name][0].Location, "nothing reads the rule "+name+", so it decides nothing", u.unreadHint(name)))
	}
	return found
}

func (u *Unit) unreadHint(name string) string {
	if set := u.meantSet(name); set != "" {
		return fmt.Sprintf("did you mean %s? A helper is read by %s, or through what it reads", set, orList(u.Sets))
	}
	return "remove it, or read it from " + orList(u.Sets) + "; what only tests read belongs into a file whose name ends in _test.rego"
}

// meantSet is the set whose name is similar; "" if there is none.
func (u *Unit) meantSet(name string) string {
	lower := strings.ToLower(name)
	for _, set := range u.Sets {
		if strings.Contains(lower, set) {
			return set
		}
	}
	for word, set := range map[string]string{"denies": "deny", "denied": "deny", "denial": "deny", "denials": "deny", "block": "deny", "blocked": "deny", "permit": "allow", "permits": "allow", "reject": "deny"} {
		if lower == word && slices.Contains(u.Sets, set) {
			return set
		}
	}
	set := nearest.Of(name, u.Sets)
	if set == "" || nearest.Distance(lower, set) > max(2, len(set)/3) {
		return ""
	}
	return set
}
