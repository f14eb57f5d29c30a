package check

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/uuid"
)

// requestValues check a string that a field of the input about a request is compared
// with, by the field's path. Other fields may have any value.
var requestValues = map[string]func(u *Unit, s string) mistake{
	"action":                         oneOf("input.action", "connect", "request"),
	"principal.kind":                 oneOf("input.principal.kind", "bitbucket_step"),
	"principal.deployment.type":      oneOf("input.principal.deployment.type", "test", "staging", "production"),
	"target.scheme":                  oneOf("input.target.scheme", "http"),
	"principal.workspace.uuid":       uuidValue,
	"principal.repository.uuid":      uuidValue,
	"principal.deployment.uuid":      uuidValue,
	"principal.pipeline.uuid":        uuidValue,
	"principal.step.uuid":            uuidValue,
	"principal.workspace.slug":       slugValue,
	"principal.deployment.slug":      slugValue,
	"principal.repository.full_name": fullName,
	"principal.repository.project":   project,
	"principal.branch":               branch,
	"target.host":                    func(_ *Unit, s string) mistake { return exactHost(s) },
	"request.method":                 method,
	"request.path":                   requestPath,
	"client.address":                 clientAddress,
	"target.port":                    func(_ *Unit, s string) mistake { return never(s, "a port is a number", "write it without quotes") },
}

// oneOf judges a field with few possible values. Another value is an error: the condition
// never holds.
func oneOf(field string, values ...string) func(*Unit, string) mistake {
	return func(_ *Unit, s string) mistake {
		if slices.Contains(values, s) {
			return mistake{}
		}
		hint := "it is " + quotedList(values)
		n := nearest.Of(s, values)
		for _, v := range values {
			if len(s) > 2 && strings.HasPrefix(v, strings.ToLower(s)) {
				n = v
			}
		}
		if n != "" {
			hint = fmt.Sprintf("did you mean %q? It is %s", n, quotedList(values))
		}
		return mistake{message: fmt.Sprintf("%s is never %q", field, s), hint: hint}
	}
}

func uuidValue(_ *Unit, s string) mistake {
	switch lower := strings.Trim(strings.ToLower(s), "{} "); {
	case uuid.IsCanonical(s):
		return mistake{}
	case uuid.IsCanonical(lower):
		return never(s, "a UUID has no braces and is in lower case", "write "+lower)
	}
	return never(s, "it is not a UUID", "write 32 hexadecimal digits in lower case, as 8-4-4-4-12")
}

func slugValue(_ *Unit, s string) mistake {
	if IsSlug(s) {
		return mistake{}
	}
	return never(s, "a slug has lower-case letters, digits, and - _ . alone", "write it as in Bitbucket's URLs")
}

// UnknownRepository begins the message about a repository that is not in
// [Unit.Repositories].
const UnknownRepository = "no repository is named "

func fullName(u *Unit, s string) mistake {
	workspace, repository, ok := strings.Cut(s, "/")
	switch {
	case !ok:
		return never(s, "a full name is a workspace, a slash and a repository", "write acme/"+s+" if the workspace is acme")
	case !IsSlug(workspace) || !IsSlug(repository):
		lower := strings.ToLower(strings.TrimSpace(s))
		if lower != s && !strings.ContainsAny(lower, "*? ") && strings.Count(lower, "/") == 1 {
			return never(s, "a full name is in lower case, as in Bitbucket's URLs", "write "+lower)
		}
		return never(s, "a full name is two slugs with a slash between them", "write the names as in Bitbucket's URLs; use startswith(…, \"acme/\") for all of a workspace")
	case strings.HasSuffix(repository, ".git") && !u.Repositories[s]:
		return never(s, "a full name is not the URL of a clone", "write "+strings.TrimSuffix(s, ".git"))
	case u.Repositories != nil && !u.Repositories[s]:
		hint := "remove it, or correct the name"
		names := make([]string, 0, len(u.Repositories))
		for name := range u.Repositories {
			names = append(names, name)
		}
		slices.Sort(names)
		if n := nearest.Of(s, names); n != "" {
			hint = "did you mean " + n + "?"
		}
		return mistake{message: UnknownRepository + fmt.Sprintf("%q", s), hint: hint, warning: true}
	}
	return mistake{}
}

// RepositoryName checks the full name of a repository's folder. It returns nil if the
// name is known, or if no names are known.
func RepositoryName(u *Unit, name string) *Finding {
	m := fullName(u, name)
	if u.Repositories == nil || m.none() {
		return nil
	}
	return &Finding{Line: 1, Column: 1, Message: m.message, Hint: m.hint, Warning: true}
}

func project(_ *Unit, s string) mistake {
	if projectKey.MatchString(s) {
		return mistake{}
	}
	return never(s, "a project is known by its key, in capitals", "write "+strings.ToUpper(s)+" if that is the key")
}

// branch judges by the rules of git-check-ref-format.
func branch(_ *Unit, s string) mistake {
	switch {
	case strings.HasPrefix(s, "refs/"):
		return never(s, "a branch has no refs/heads/ before it", "write "+strings.TrimPrefix(s, "refs/heads/"))
	case strings.ContainsAny(s, "*?["):
		return never(s, "it is compared literally, and no branch has such a name", `use startswith(input.principal.branch, "release/")`)
	case s == "" || strings.ContainsAny(s, " ~^:\\") || strings.Contains(s, "..") || strings.HasSuffix(s, "/") || strings.HasPrefix(s, "/") || strings.HasSuffix(s, ".lock"):
		return never(s, "no branch has such a name", "write the branch's name as Git has it; a run without a branch has no input.principal.branch")
	}
	return mistake{}
}

func method(_ *Unit, s string) mistake {
	switch {
	case methodForm.MatchString(s):
		return mistake{}
	case s != "" && methodForm.MatchString(strings.ToUpper(s)):
		return never(s, "methods are in capitals", "write "+strings.ToUpper(s))
	}
	return never(s, "it is not a method", `write "GET", "POST" or another one`)
}

func requestPath(_ *Unit, s string) mistake {
	switch {
	case !strings.HasPrefix(s, "/"):
		return never(s, "a path begins with a slash", "write /"+strings.TrimLeft(s, "/"))
	case strings.ContainsAny(s, "?#"):
		return never(s, "a path has no query", "write the part before the ?")
	case strings.ContainsAny(s, "*"):
		return never(s, "it is compared literally", "use startswith(input.request.path, …)")
	}
	return mistake{}
}

func clientAddress(_ *Unit, s string) mistake {
	if a, err := netip.ParseAddr(s); err == nil && a.String() == s {
		return mistake{}
	} else if err == nil {
		return never(s, "the address is not in its canonical form", "write "+a.String())
	}
	if isNetwork(s) {
		return never(s, "an address is not a network", fmt.Sprintf("use net.cidr_contains(%q, input.client.address)", s))
	}
	return never(s, "it is not an address", "write an IP address")
}

// fieldValues are the judges of the fields of the unit's input.
func (u *Unit) fieldValues() map[string]func(*Unit, string) mistake {
	if u.Subject == Deliveries {
		return deliveryValues
	}
	return requestValues
}

// fieldText is a field as a policy writes it: input.refs[_].name.
func fieldText(field string) string { return "input." + strings.ReplaceAll(field, ".*", "[_]") }

// fieldValue judges a value that a field is compared with.
func (u *Unit) fieldValue(field string, t *ast.Term) mistake {
	judge := u.fieldValues()[field]
	if judge == nil {
		return u.objectValue(field, t)
	}
	switch v := t.Value.(type) {
	case ast.String:
		return judge(u, string(v))
	case ast.Number:
		if field != "target.port" {
			return mistake{message: fmt.Sprintf("%s is never %s: it is a text", fieldText(field), v), hint: "put it in quotes"}
		}
		if n, err := json.Number(v).Int64(); err != nil || n < 1 || n > 65535 {
			return mistake{message: fmt.Sprintf("input.target.port is never %s", v), hint: "write a number from 1 to 65535"}
		}
	case ast.Boolean, ast.Null, *ast.Array, ast.Set, ast.Object:
		return mistake{message: fmt.Sprintf("%s is never %s", fieldText(field), typeName(t.Value)), hint: "compare it with a text, or look it up in a list with in"}
	}
	return mistake{}
}

// objectValue judges a value that an object of the input is compared with: only an
// object can be equal to it.
func (u *Unit) objectValue(field string, t *ast.Term) mistake {
	if is := typeOf(t.Value); u.fieldType(field) != "object" || is == "" || is == "object" || u.Fields == nil || len(u.Fields(field)) == 0 {
		return mistake{}
	}
	return mistake{message: fmt.Sprintf("%s is an object and never %s", fieldText(field), typeName(t.Value)),
		hint: fmt.Sprintf("compare one of its members: %s.%s", fieldText(field), strings.Join(u.Fields(field), ", "+fieldText(field)+"."))}
}

func (u *Unit) fieldType(field string) string {
	if u.FieldType == nil {
		return ""
	}
	return u.FieldType(field)
}

var (
	projectKey = regexp.MustCompile(`^[A-Z][A-Z0-9_]*$`)
	methodForm = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Z-]+$")
)
