package check

import (
	"fmt"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

// matcher is a builtin that compares a text with a part: the positions of both operands.
type matcher struct {
	text, part int
	judge      func(field, part string) mistake
	broad      bool // matches more than is meant: a deny may want that
}

var matchers = map[string]matcher{
	"startswith":                       {0, 1, startsWith, false},
	"endswith":                         {0, 1, endsWith, false},
	"contains":                         {0, 1, holdsPart, true},
	"indexof":                          {0, 1, holdsPart, true},
	"indexof_n":                        {0, 1, holdsPart, true},
	"strings.count":                    {0, 1, holdsPart, true},
	"trim_prefix":                      {0, 1, startsWith, false},
	"trim_suffix":                      {0, 1, endsWith, false},
	"strings.any_prefix_match":         {0, 1, startsWith, false},
	"strings.any_suffix_match":         {0, 1, endsWith, false},
	"regex.match":                      {1, 0, regularExpression, true},
	"regex.find_n":                     {1, 0, regularExpression, true},
	"regex.find_all_string_submatch_n": {1, 0, regularExpression, true},
	"glob.match":                       {2, 0, globPattern, false},
}

// matching warns of a part of a host's or repository's name that other names have too:
// evilpartner.example ends with partner.example.
func (o *operands) matching(name string, operands []*ast.Term) {
	m, ok := matchers[name]
	if !ok || len(operands) <= max(m.text, m.part) || o.wide && m.broad {
		return
	}
	field := ""
	for _, from := range o.scope.origins(operands[m.text]) {
		if kind := matchedAs(from.field); kind != "" {
			field = kind
		}
	}
	if field == "" {
		return
	}
	for _, from := range o.scope.origins(operands[m.part]) {
		if from.member {
			from.member = false
		}
		judge := func(v found) []Finding {
			s, ok := v.value.Value.(ast.String)
			if !ok {
				var list []Finding
				members(v, func(one found) {
					if s, ok := one.value.Value.(ast.String); ok {
						list = append(list, o.unit.reported(one, m.judge(field, string(s)))...)
					}
				})
				return list
			}
			return o.unit.reported(v, m.judge(field, string(s)))
		}
		o.judge(from, "part of "+field+" by "+name, judge)
	}
}

// deliveredFullName stands for each full name in the input about a delivery.
const deliveredFullName = "repository.full_name"

// matchedAs is the field whose checks of parts are those of a field; "" if there are none.
func matchedAs(field string) string {
	switch {
	case field == "target.host" || field == "principal.repository.full_name" || field == "principal.branch":
		return field
	case field == deliveredFullName || strings.HasPrefix(field, "pull_request.") && strings.HasSuffix(field, "."+deliveredFullName):
		return deliveredFullName
	case field == "refs.*.name" || strings.HasPrefix(field, "pull_request.") && strings.HasSuffix(field, ".branch"):
		return "principal.branch"
	}
	return ""
}

func wider(format string, args ...any) mistake {
	return mistake{message: fmt.Sprintf(format, args...), warning: true}
}

// hostHint is the call of the library for a comparison with a part of a host.
func hostHint(part string) string {
	name := strings.Trim(part, ".*")
	if name == "" || !neverMatches(name, name).none() {
		name = "partner.example"
	}
	return fmt.Sprintf("use lib.host_in(input.target.host, {%q, %q})", name, "*."+name)
}

func startsWith(field, part string) mistake {
	switch field {
	case "target.host":
		m := wider("a host that starts with %q may be anybody's: %s.evil.example does", part, strings.TrimSuffix(part, "."))
		m.hint = hostHint(part)
		return m
	case "principal.repository.full_name", deliveredFullName:
		if !strings.Contains(part, "/") {
			m := wider("%q is also the beginning of another workspace's name, %s-evil", part, part)
			m.hint = fmt.Sprintf("write the slash as well: %q", part+"/")
			return m
		}
		return partOfName(field, part, strings.HasPrefix(part, "/"))
	}
	return mistake{}
}

func endsWith(field, part string) mistake {
	switch field {
	case "target.host":
		if strings.HasPrefix(part, ".") {
			name := part[1:]
			return neverMatches(part, name)
		}
		m := wider("evil%s also ends with %q", part, part)
		m.hint = hostHint(part)
		return m
	case "principal.repository.full_name", deliveredFullName:
		if !strings.Contains(part, "/") {
			m := wider("%q is also the end of another repository's name, evil-%s", part, part)
			m.hint = "compare the whole name, or write the slash before it"
			return m
		}
		return partOfName(field, part, false)
	}
	return mistake{}
}

// partOfName judges a part of a full name that has the slash in it.
func partOfName(field, part string, never bool) mistake {
	if never || field != deliveredFullName && part != strings.ToLower(part) {
		return mistake{message: fmt.Sprintf("no full name has %q there", part), hint: "a full name is in lower case, and begins with the workspace's slug", warning: true}
	}
	return mistake{}
}

func holdsPart(field, part string) mistake {
	if field == "target.host" && (part == "." || part == ":") || field != "target.host" && part == "/" {
		return mistake{} // looks for the structure of the name
	}
	m := wider("a name that has %q somewhere may be anybody's", part)
	m.hint = "compare the whole name, or the beginning up to a slash"
	if field == "target.host" {
		m = wider("a host that has %q somewhere may be anybody's: %s.evil.example has", part, strings.Trim(part, "."))
		m.hint = hostHint(part)
	}
	return m
}

func globPattern(field, pattern string) mistake {
	hint := "write the whole name"
	if field == "target.host" {
		hint = hostHint(pattern)
	}
	rest := strings.TrimLeft(pattern, "*?")
	switch {
	case field == "target.host" && rest != pattern && !strings.HasPrefix(rest, "."):
		m := wider("the pattern %q matches evil%s as well", pattern, rest)
		m.hint = hint
		return m
	case strings.HasSuffix(pattern, "*") && field == "target.host":
		m := wider("the pattern %q matches names of other domains as well", pattern)
		m.hint = hint
		return m
	case strings.HasPrefix(pattern, "*") && (field == "principal.repository.full_name" || field == deliveredFullName):
		m := wider("the pattern %q matches repositories of any workspace", pattern)
		m.hint = "write the workspace's slug before the slash"
		return m
	}
	return mistake{}
}
