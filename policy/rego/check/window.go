package check

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/nearest"
)

var (
	windowKeys  = []string{"days", "from", "to"}
	windowDays  = []string{"mon", "tue", "wed", "thu", "fri", "sat", "sun"}
	longDays    = []string{"monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	windowClock = regexp.MustCompile(`^(([01]?[0-9]|2[0-3]):[0-5][0-9]|24:00)$`)
)

const windowHint = `write [{"days": ["mon", "fri"], "from": "08:00", "to": "18:00"}]`

func windowList(u *Unit, v found) []Finding {
	var list []Finding
	if members(v, func(m found) { list = append(list, window(u, m)...) }) || unknown(v.value) {
		return list
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok || object.Get(ast.StringTerm("from")) != nil || object.Get(ast.StringTerm("to")) != nil || object.Get(ast.StringTerm("days")) != nil {
		return []Finding{u.place(v, nil, "this is "+typeName(v.value.Value)+" and holds at no time: lib.within needs a list of windows", windowHint)}
	}
	object.Foreach(func(k, sub *ast.Term) { list = append(list, window(u, found{sub, below(v.path, k), false})...) })
	return list
}

// window judges one window of lib.within.
func window(u *Unit, v found) []Finding {
	if unknown(v.value) {
		return nil
	}
	object, ok := v.value.Value.(ast.Object)
	if !ok {
		return []Finding{u.place(v, nil, "a window is an object and not "+typeName(v.value.Value), windowHint)}
	}
	list := u.keys(v, object, "a window", windowKeys, []string{"from", "to"}, windowHint)
	clock := map[string]string{}
	for _, name := range []string{"from", "to"} {
		t := object.Get(ast.StringTerm(name))
		if t == nil || unknown(t) {
			continue
		}
		s, ok := t.Value.(ast.String)
		if !ok || !windowClock.MatchString(string(s)) {
			list = append(list, u.place(found{t, below(v.path, ast.StringTerm(name)), false}, v.value.Location,
				fmt.Sprintf("%s is not a time of the day: %s", name, t.Value), `write hours and minutes in UTC, such as "08:30"`))
			continue
		}
		clock[name] = fmt.Sprintf("%05s", string(s))
	}
	if clock["from"] != "" && clock["from"] == clock["to"] {
		list = append(list, u.place(v, nil, "the window ends when it begins, and so holds at no time", `write from "00:00" to "24:00" for a whole day`))
	}
	if days := object.Get(ast.StringTerm("days")); days != nil && !unknown(days) {
		at := found{days, below(v.path, ast.StringTerm("days")), false}
		if !members(at, func(m found) { list = append(list, u.day(m)...) }) {
			list = append(list, u.place(at, v.value.Location, "days is "+typeName(days.Value)+" and not a list", `write ["mon", "fri"]`))
		}
	}
	return list
}

func (u *Unit) day(v found) []Finding {
	if unknown(v.value) {
		return nil
	}
	s, ok := v.value.Value.(ast.String)
	lower := strings.ToLower(string(s))
	if ok && (slices.Contains(windowDays, lower) || slices.Contains(longDays, lower)) {
		return nil
	}
	hint := "write any of " + strings.Join(windowDays, ", ")
	if n := nearest.Of(lower, windowDays); ok && n != "" {
		hint = fmt.Sprintf("did you mean %q?", n)
	}
	return []Finding{u.place(v, nil, fmt.Sprintf("%s is not a day of the week", v.value.Value), hint)}
}

// keys judges the keys of an object: unknown ones where allowed names all of them,
// and those that are missing.
func (u *Unit) keys(v found, object ast.Object, what string, allowed, required []string, hint string) []Finding {
	var list []Finding
	meant := map[string]bool{}
	object.Foreach(func(k, _ *ast.Term) {
		if unknown(k) {
			return
		}
		name, ok := k.Value.(ast.String)
		if ok && slices.Contains(allowed, string(name)) {
			return
		}
		write := "it may have " + strings.Join(allowed, ", ")
		if n := nearest.Of(string(name), allowed); ok && n != "" {
			write = fmt.Sprintf("did you mean %q?", n)
			meant[n] = true
		}
		list = append(list, u.place(found{k, below(v.path, k), true}, v.value.Location, fmt.Sprintf("%s has no key %s", what, k.Value), write))
	})
	for _, name := range required {
		if object.Get(ast.StringTerm(name)) == nil && !meant[name] {
			list = append(list, u.place(v, nil, fmt.Sprintf("%s has no %q, and never counts", what, name), hint))
		}
	}
	return list
}
