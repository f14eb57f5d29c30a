package check

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
)

func (u *Unit) wrongType(v found, wants string) []Finding {
	return []Finding{u.place(v, nil, "this is "+typeName(v.value.Value)+" and never matches: "+wants, "write a list: one entry for each")}
}

func patternList(u *Unit, v found) []Finding {
	return u.hostList(v, "lib.host_in needs a list of host patterns", patternEntry, func(key string) mistake { return hostPattern(key) })
}

func targetList(u *Unit, v found) []Finding {
	return u.hostList(v, "lib.target_in needs a list of hosts, with a port or without", targetMember, func(key string) mistake {
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
			list = append(list, u.place(at, nil, fmt.Sprintf("the hosts are one level too deep, below %q", string(name)), "name "+string(name)+" in the rule as well, or remove the level"))
		default:
			list = append(list, u.reported(at, key(string(name)))...)
			if b, ok := sub.Value.(ast.Boolean); ok && !bool(b) {
				f := u.place(at, nil, fmt.Sprintf("%q is in the list, whatever its value is: false does not remove it", string(name)), "remove the entry, or write {} as its value")
				f.Warning = true
				list = append(list, f)
			}
		}
	})
	return list
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
	return u.wrongType(v, "lib.port_in needs a list of ports and ranges")
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
