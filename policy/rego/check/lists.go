package check

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// A listKind judges what a function of the library is given: the whole value, or,
// where a rule makes the list member by member, one member.
type listKind struct {
	name   string
	whole  func(u *Unit, v found) []Finding
	member func(u *Unit, v found) []Finding
}

// listKinds are the operands of the library's functions, by function and position.
var listKinds = map[string]map[int]listKind{
	"host_in":        {1: {"patterns", patternList, patternEntry}},
	"target_in":      {1: {"entries", targetList, targetMember}},
	"port_in":        {1: {"ports", portList, portEntry}},
	"within":         {0: {"windows", windowList, window}},
	"before":         {0: {"time", timeText, timeText}},
	"since":          {0: {"time", timeText, timeText}},
	"active":         {0: {"exception", activeException, nil}},
	"exceptions_for": {0: {"exceptions", exceptionList, wholeException}},
}

func (u *Unit) wrongType(v found, wants string) []Finding {
	return []Finding{u.place(v, nil, "this is "+typeName(v.value.Value)+" and never matches: "+wants, "write a list: one entry for each")}
}

// reported turns a mistake into a finding.
func (u *Unit) reported(v found, m mistake) []Finding {
	if m.none() {
		return nil
	}
	f := u.place(v, nil, m.message, m.hint)
	f.Warning = m.warning
	return []Finding{f}
}

// members calls f for the members of a list or set.
func members(v found, f func(found)) bool {
	switch c := v.value.Value.(type) {
	case *ast.Array:
		for i := range c.Len() {
			f(found{c.Elem(i), belowItem(v.path, i), false})
		}
	case ast.Set:
		c.Foreach(func(t *ast.Term) { f(found{t, v.path, false}) })
	default:
		return false
	}
	return true
}

func patternList(u *Unit, v found) []Finding {
	return u.hostList(v, "lib.host_in wants a list of host patterns", patternEntry, func(key string) mistake { return hostPattern(key) })
}

func targetList(u *Unit, v found) []Finding {
	return u.hostList(v, "lib.target_in wants a list of hosts, with a port or without", targetMember, func(key string) mistake {
		if _, _, hasPort := cutPort(key); hasPort {
			return never(key, "an entry with a port stands in a list and not among the keys of an object", "write the entries as a list")
		}
		return hostPattern(key)
	})
}

// hostList judges a list of hosts, or an object whose keys they are.
func (u *Unit) hostList(v found, wants string, member func(*Unit, found) []Finding, key func(string) mistake) []Finding {
	var list []Finding
	if members(v, func(m found) { list = append(list, member(u, m)...) }) {
		return list
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok {
		if unknown(v.value) {
			return nil
		}
		return u.wrongType(v, wants)
	}
	object.Foreach(func(k, sub *ast.Term) {
		at := found{k, below(v.path, k), true}
		name, isText := k.Value.(ast.String)
		switch {
		case unknown(k):
		case !isText:
			list = append(list, u.place(at, nil, "a host is a text and not "+typeName(k.Value), "write the host in quotes"))
		case !strings.Contains(string(name), ".") && holdsEntries(sub.Value):
			list = append(list, u.place(at, nil, fmt.Sprintf("the hosts are one level too deep, below %q", string(name)), "name "+string(name)+" in the rule as well, or take the level out"))
		default:
			list = append(list, u.reported(at, key(string(name)))...)
			if b, ok := sub.Value.(ast.Boolean); ok && !bool(b) {
				f := u.place(at, nil, fmt.Sprintf("%q is in the list, whatever its value is: false does not take it out", string(name)), "remove the entry, or write {} as its value")
				f.Warning = true
				list = append(list, f)
			}
		}
	})
	return list
}

// holdsEntries reports whether a value is a collection with something in it.
func holdsEntries(v ast.Value) bool {
	switch v := v.(type) {
	case ast.Object:
		return v.Len() > 0
	case *ast.Array:
		return v.Len() > 0
	case ast.Set:
		return v.Len() > 0
	}
	return false
}

// unknown reports whether a term of a literal has its value only when it is evaluated.
func unknown(t *ast.Term) bool {
	switch t.Value.(type) {
	case ast.Var, ast.Ref, ast.Call, *ast.ArrayComprehension, *ast.SetComprehension, *ast.ObjectComprehension, *ast.TemplateString:
		return true
	}
	return false
}

func patternEntry(u *Unit, v found) []Finding { return u.hostEntry(v, hostPattern, false) }
func targetMember(u *Unit, v found) []Finding { return u.hostEntry(v, targetEntry, true) }

func (u *Unit) hostEntry(v found, judge func(string) mistake, ports bool) []Finding {
	if unknown(v.value) {
		return nil
	}
	s, ok := v.value.Value.(ast.String)
	if ok {
		return u.reported(v, judge(string(s)))
	}
	hint := "write a host name, or *. and one, as a text"
	if object, isObject := v.value.Value.(ast.Object); isObject && object.Len() == 1 {
		k := object.Keys()[0]
		if n, isNumber := object.Get(k).Value.(ast.Number); isNumber {
			name, _ := k.Value.(ast.String)
			hint = fmt.Sprintf("put it in quotes: %q", string(name)+":"+string(n))
			if !ports {
				hint = fmt.Sprintf("write the host alone, %q, or use lib.target_in and put it in quotes: %q", string(name), string(name)+":"+string(n))
			}
		}
	}
	return []Finding{u.place(v, nil, "an entry is "+typeName(v.value.Value)+" and never matches: a host is a text", hint)}
}

func portList(u *Unit, v found) []Finding {
	var list []Finding
	if members(v, func(m found) { list = append(list, portEntry(u, m)...) }) || unknown(v.value) {
		return list
	}
	return u.wrongType(v, "lib.port_in wants a list of ports and ranges")
}

var portRange = regexp.MustCompile(`^ *([0-9]{1,5}) *(?:- *([0-9]{1,5}) *)?$`)

func portEntry(u *Unit, v found) []Finding {
	const hint = `write a number such as 443, or a range such as "8000-8099"`
	wrong := func(format string, args ...any) []Finding {
		return []Finding{u.place(v, nil, fmt.Sprintf(format, args...), hint)}
	}
	if unknown(v.value) {
		return nil
	}
	switch p := v.value.Value.(type) {
	case ast.Number:
		if n, err := json.Number(p).Int64(); err != nil || n < 1 || n > 65535 {
			return wrong("%s is not a port", p)
		}
	case ast.String:
		parts := portRange.FindStringSubmatch(string(p))
		if parts == nil {
			return wrong("%s is not a port and not a range of ports", p)
		}
		first, _ := strconv.Atoi(parts[1])
		last := first
		if parts[2] != "" {
			last, _ = strconv.Atoi(parts[2])
		}
		switch {
		case first < 1 || last > 65535:
			return wrong("%s has a port outside of 1 to 65535", p)
		case first > last:
			return wrong("the range %s has its end before its beginning", p)
		}
	default:
		return wrong("an entry is %s and never matches: a port is a number", typeName(v.value.Value))
	}
	return nil
}

var utcTime = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$`)

// isTime reports whether a text is a time as the library reads it, of a day that the
// calendar has.
func isTime(s string) bool {
	_, err := time.Parse(time.RFC3339, s)
	return err == nil && utcTime.MatchString(s)
}

const timeHint = `write a time in UTC with whole seconds: "2026-12-31T00:00:00Z"`

func timeText(u *Unit, v found) []Finding {
	if unknown(v.value) {
		return nil
	}
	s, ok := v.value.Value.(ast.String)
	switch {
	case !ok:
		return []Finding{u.place(v, nil, "this is "+typeName(v.value.Value)+" and not a time", timeHint)}
	case !isTime(string(s)):
		return []Finding{u.place(v, nil, s.String()+" is not a time in UTC, so neither before nor since it ever holds", timeHint)}
	}
	return nil
}
