package webhook

import (
	"fmt"
	"strings"
	"testing"
)

func endpoints(n int) (routes []Route) {
	for i := range n {
		routes = append(routes, Route{Action: RefreshResource, Endpoint: fmt.Sprintf("endpoint-%059d", i), Rule: "r"})
	}
	return routes
}

// TestSameRoutes: a recorded list equals the routes that it was made of, in any order, and
// no others.
func TestSameRoutes(t *testing.T) {
	jenkins, kargo := Route{Action: Forward, Endpoint: "jenkins", Rule: "a"}, Route{Action: RefreshResource, Endpoint: "kargo"}
	names, policy := Route{Action: RefreshNames}, Route{Action: RefreshPolicy}
	for _, c := range []struct {
		then, now []Route
		same      bool
	}{
		{nil, nil, true},
		{[]Route{jenkins, kargo}, []Route{kargo, jenkins}, true},
		{[]Route{jenkins}, []Route{{Action: Forward, Endpoint: "jenkins", Rule: "b"}}, true},
		{[]Route{jenkins, policy}, []Route{jenkins}, true},
		{[]Route{jenkins}, []Route{policy, jenkins}, true},
		{[]Route{jenkins}, nil, false},
		{nil, []Route{names}, false},
		{[]Route{jenkins}, []Route{jenkins, jenkins}, false},
		{[]Route{jenkins}, []Route{{Action: RefreshResource, Endpoint: "jenkins"}}, false},
		{endpoints(40), endpoints(40), true},
		{endpoints(40), endpoints(41), false},
		{endpoints(40), endpoints(40)[1:], false},
		{endpoints(maxRoutesText), endpoints(maxRoutesText), true},
	} {
		text := RoutesText(c.then)
		if len(text) > 1500 {
			t.Errorf("%d bytes", len(text))
		}
		if got := SameRoutes(text, c.now); got != c.same {
			t.Errorf("%q and %v: %t", text, c.now, got)
		}
	}
}

// FuzzSameRoutes: the routes of a text are the same as those that it was made of, whatever
// the configuration names them, and a text is never the same as one route more.
func FuzzSameRoutes(f *testing.F) {
	f.Add("jenkins kargo argo", "forward jenkins; refresh_policy; 3 more")
	f.Add("a a b", "; ; 9999999999999999999999 more")
	f.Fuzz(func(t *testing.T, names, text string) {
		var routes []Route
		for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r <= ' ' || r == ';' }) {
			routes = append(routes, Route{Action: Forward, Endpoint: name})
		}
		if !SameRoutes(RoutesText(routes), routes) {
			t.Fatalf("%q is not the same as %v", RoutesText(routes), routes)
		}
		if SameRoutes(text, nil) && SameRoutes(text, []Route{{Action: RefreshNames}}) {
			t.Fatalf("%q is the same as no route and as one", text)
		}
	})
}
