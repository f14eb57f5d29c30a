package webhook

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxRoutesText bounds the routes that [RoutesText] names. The names of actions and endpoints
// are short, so that the text has at most 1,500 bytes.
const maxRoutesText = 16

// routeSeparator separates the routes of a text.
const routeSeparator = "; "

// RoutesText lists routes for the audit log, in their order: each is an action, with its
// endpoint after a space. A long list ends with the number of the others.
func RoutesText(routes []Route) string {
	var list []string
	for i, r := range routes {
		if i == maxRoutesText {
			list = append(list, fmt.Sprintf("%d more", len(routes)-i))
			break
		}
		list = append(list, routeText(r))
	}
	return strings.Join(list, routeSeparator)
}

func routeText(r Route) string { return strings.TrimSpace(string(r.Action) + " " + r.Endpoint) }

// SameRoutes reports whether routes are those of a recorded text of [RoutesText]. The order
// does not matter. refresh_policy is not compared: its effect depends on the branch of the
// policy's repository, which is configuration. Of a list that was too long, the
// recorded part and the number are compared.
func SameRoutes(text string, routes []Route) bool {
	var recorded, present []string
	more := 0
	for item := range strings.SplitSeq(text, routeSeparator) {
		if n, ok := strings.CutSuffix(item, " more"); ok {
			if count, err := strconv.Atoi(n); err == nil && count > 0 {
				more = count
				continue
			}
		}
		if item != "" && item != string(RefreshPolicy) {
			recorded = append(recorded, item)
		}
	}
	for _, r := range routes {
		if r.Action != RefreshPolicy {
			present = append(present, routeText(r))
		}
	}
	if more > 0 {
		missing := slices.ContainsFunc(recorded, func(item string) bool { return !slices.Contains(present, item) })
		return !missing && len(present) >= len(recorded) && len(present) <= len(recorded)+more
	}
	slices.Sort(recorded)
	slices.Sort(present)
	return slices.Equal(recorded, present)
}

// EqualRoutes reports whether two decisions order the same actions, in any order and by
// whichever rules.
func EqualRoutes(a, b []Route) bool {
	texts := func(routes []Route) []string {
		list := make([]string, len(routes))
		for i, r := range routes {
			list[i] = routeText(r)
		}
		slices.Sort(list)
		return list
	}
	return slices.Equal(texts(a), texts(b))
}
