package check

import (
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// subjects are the operands of the library's functions that are looked up in a list: their
// types, and their usual form.
var subjects = map[string]map[int]struct{ of, write string }{
	"host_in":        {0: {"string", "lib.host_in(input.target.host, …)"}},
	"is_address":     {0: {"string", "lib.is_address(input.target.host)"}},
	"target_in":      {0: {"object", "lib.target_in(input.target, …)"}},
	"port_in":        {0: {"number", "lib.port_in(input.target.port, …)"}},
	"exceptions_for": {1: {"string", "lib.exceptions_for(…, input.principal.repository.full_name, input.target)"}, 2: {"object", "lib.exceptions_for(…, input.principal.repository.full_name, input.target)"}},
}

// arities are the numbers of arguments of the library's predicates.
var arities = map[string]int{"host_in": 2, "target_in": 2, "port_in": 2, "within": 1, "before": 1, "since": 1, "active": 1, "is_address": 1}

// subject judges the operand that a function of the library looks up: it never finds a
// value of another type.
func (o *operands) subject(function string, operands []*ast.Term) {
	if takes := arities[function]; takes > 0 && len(operands) > takes && !isVar(operands[takes]) {
		o.report([]Finding{at(operands[takes].Location, o.at.Location, fmt.Sprintf("lib.%s takes %d arguments, and this is compared with its result", function, takes), "remove it, or put it into the list")})
	}
	for i, want := range subjects[function] {
		if i >= len(operands) {
			continue
		}
		if is := o.typeOf(operands[i]); is != "" && is != want.of {
			o.report([]Finding{at(operands[i].Location, o.at.Location,
				fmt.Sprintf("lib.%s needs %s here and this is %s, so it never holds", function, typeNames[want.of], typeNames[is]), "write "+want.write)})
		}
	}
}

// membership judges the right side of in, some … in and every … in: a text, a number
// or null has no members. It returns the origins of those that have.
func (o *operands) membership(t *ast.Term, fields bool) []origin {
	var kept []origin
	for _, from := range o.scope.origins(t) {
		switch {
		case from.member:
			kept = append(kept, from)
		case from.field != "":
			if is := o.unit.fieldType(from.field); is != "" && !isCollection(is) {
				o.report([]Finding{at(t.Location, o.at.Location, fmt.Sprintf("input.%s is %s and has no members, so this never holds", from.field, typeNames[is]),
					"compare it with ==, or put the list on the right side of in")})
			}
		default:
			before := len(o.found)
			o.judge(from, fmt.Sprintf("collection %v", fields), func(v found) []Finding { return o.collection(v, fields) })
			if len(o.found) == before {
				kept = append(kept, from)
			}
		}
	}
	return kept
}

// collection judges one value whose members are looked up. fields is set if a field of the
// input is looked up.
func (o *operands) collection(v found, fields bool) []Finding {
	if unknown(v.value) {
		return nil
	}
	if !isCollection(typeOf(v.value.Value)) {
		return []Finding{o.unit.place(v, o.at.Location, "this is "+typeName(v.value.Value)+" and has no members, so in never finds anything in it", "write a list: one entry for each")}
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok || !fields || object.Len() == 0 {
		return nil
	}
	texts := object.Until(func(_, sub *ast.Term) bool { return unknown(sub) || isText(sub) || typeOf(sub.Value) == "number" })
	if texts {
		return nil
	}
	return []Finding{o.unit.place(v, o.at.Location, "in compares the values of this object and not its keys, so the condition at "+o.at.Location.String()+" never holds",
		"use lib.host_in for hosts, look the key up in brackets as in data.names[input.principal.repository.full_name], or write a list")}
}

// order judges <, <=, > and >= between values of different types, which Rego sorts by
// their types.
func (o *operands) order(operator string, operands []*ast.Term) {
	if len(operands) != 2 {
		return
	}
	left, right := o.typeOf(operands[0]), o.typeOf(operands[1])
	if left == "" || right == "" || left == right {
		return
	}
	less := operator == ast.LessThan.Name || operator == ast.LessThanEq.Name
	result := "never"
	if less == (typeOrder[left] < typeOrder[right]) {
		result = "always"
	}
	hint := "compare values of one type"
	if left == "string" && right == "number" || left == "number" && right == "string" {
		hint = "write the number without quotes, or use to_number"
	}
	o.report([]Finding{at(operands[1].Location, o.at.Location, fmt.Sprintf("this compares %s with %s and %s holds, whatever their values are", typeNames[left], typeNames[right], result), hint)})
}

// constants judges texts that a function cannot parse: the evaluation fails, and denies
// the request.
func (o *operands) constants(name string, operands []*ast.Term) {
	var judge func(string) mistake
	var positions []int
	switch name {
	case "net.cidr_contains":
		judge, positions = networkText, []int{0}
		o.address(operands)
	case "net.cidr_intersects":
		judge, positions = networkText, []int{0, 1}
	case "regex.match", "regex.find_n", "regex.find_all_string_submatch_n", "regex.split":
		judge, positions = expressionText, []int{0}
	case "regex.replace":
		judge, positions = expressionText, []int{1}
	case "time.parse_rfc3339_ns":
		judge, positions = rfc3339Text, []int{0}
	case "time.parse_duration_ns":
		judge, positions = durationText, []int{0}
	default:
		return
	}
	for _, i := range positions {
		if i >= len(operands) {
			continue
		}
		for _, from := range o.scope.origins(operands[i]) {
			if from.member {
				continue
			}
			o.judge(from, "operand of "+name, func(v found) []Finding {
				s, ok := v.value.Value.(ast.String)
				if !ok {
					return nil
				}
				return o.unit.reported(v, judge(string(s)))
			})
		}
	}
}

// address judges the second operand of net.cidr_contains, and the order of both.
func (o *operands) address(operands []*ast.Term) {
	if len(operands) < 2 {
		return
	}
	for _, from := range o.scope.origins(operands[0]) {
		if from.field == "client.address" || from.field == "target.host" {
			o.report([]Finding{at(operands[0].Location, o.at.Location, "input."+from.field+" is not a network", fmt.Sprintf(`write the network first: net.cidr_contains("10.0.0.0/8", input.%s)`, from.field))})
		}
	}
	for _, from := range o.scope.origins(operands[1]) {
		if from.field == "target.host" && !o.rules.guarded() {
			f := at(operands[1].Location, o.at.Location, "a host that is a name makes this fail, and the request is denied with policy_error", "write lib.is_address(input.target.host) on the line before")
			f.Warning = true
			o.report([]Finding{f})
		}
	}
}

// guarded reports whether a rule of the unit checks if a host is an address.
func (r *rules) guarded() bool {
	if r.asked {
		return r.guards
	}
	r.asked = true
	found := false
	for _, m := range r.unit.Resolved {
		ast.WalkRefs(m, func(ref ast.Ref) bool {
			found = found || ref.String() == libraryPrefix+"is_address"
			return found
		})
	}
	r.guards = found
	return found
}

func networkText(s string) mistake {
	if _, err := netip.ParsePrefix(s); err == nil {
		return mistake{}
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return mistake{message: fmt.Sprintf("%q is an address and not a network", s), hint: fmt.Sprintf("write %q", netip.PrefixFrom(a, a.BitLen()))}
	}
	return mistake{message: fmt.Sprintf("%q is not a network", s), hint: `write an address, a slash and the length of the prefix: "10.0.0.0/8"`}
}

func expressionText(s string) mistake {
	if _, err := regexp.Compile(s); err != nil {
		return mistake{message: fmt.Sprintf("%q is not a regular expression of RE2: %v", s, err), hint: "correct it; RE2 has neither lookaround nor backreferences"}
	}
	return mistake{}
}

func rfc3339Text(s string) mistake {
	if _, err := time.Parse(time.RFC3339Nano, s); err != nil {
		return mistake{message: fmt.Sprintf("%q is not a time of RFC 3339", s), hint: timeHint}
	}
	return mistake{}
}

func durationText(s string) mistake {
	if _, err := time.ParseDuration(s); err != nil {
		return mistake{message: fmt.Sprintf("%q is not a duration", s), hint: `write one such as "30m"`}
	}
	return mistake{}
}
