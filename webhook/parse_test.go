package webhook

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

const (
	hashA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hashB = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	zeros = "0000000000000000000000000000000000000000"
)

// replaced is body with one text in the place of another.
func replaced(t testing.TB, body, old, new string) string {
	t.Helper()
	if !strings.Contains(body, old) {
		t.Fatalf("the body has no %q", old)
	}
	return strings.Replace(body, old, new, 1)
}

func TestEvents(t *testing.T) {
	t.Parallel()
	cloudSkeleton := `"actor":{"uuid":"{11111111-0000-4000-8000-00000000000A}","type":"app_user"},"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000003}"}`
	cloudRepo := `"repository":{"uuid":"22222222-0000-4000-8000-000000000003","full_name":"acme/app","urls":["https://bitbucket.org/acme/app"]}`
	cloudActor := `"actor":{"uuid":"11111111-0000-4000-8000-00000000000a","kind":"app_user"}`
	push := func(changes string) string { return `{` + cloudSkeleton + `,"push":{"changes":[` + changes + `]}}` }
	side := func(name, commit string) string {
		return `"` + name + `":{"type":"branch","name":"main","target":{"hash":"` + commit + `"}}`
	}
	for name, c := range map[string]struct {
		kind            Kind
		key, body, want string
	}{
		"cloud push": {Cloud, "repo:push", cloudPush, `{"kind":"cloud","event":"repo:push","repository":{"uuid":"22222222-0000-4000-8000-000000000002","full_name":"acme/egress-policy","project":"SEC","urls":["https://bitbucket.org/acme/egress-policy"]},` +
			`"refs":[{"type":"branch","name":"main","change":"updated","old":"` + hashB + `","new":"` + hashA + `"}],"actor":{"uuid":"11111111-0000-4000-8000-000000000001","kind":"user"}}`},
		"cloud creation": {Cloud, "repo:push", push(`{` + side("new", hashA) + `,"old":null,"created":true}`),
			`{"kind":"cloud","event":"repo:push",` + cloudRepo + `,"refs":[{"type":"branch","name":"main","change":"created","new":"` + hashA + `"}],` + cloudActor + `}`},
		"cloud deletion": {Cloud, "repo:push", push(`{` + side("old", hashA) + `,"new":null,"closed":true}`),
			`{"kind":"cloud","event":"repo:push",` + cloudRepo + `,"refs":[{"type":"branch","name":"main","change":"deleted","old":"` + hashA + `"}],` + cloudActor + `}`},
		"cloud annotated tag": {Cloud, "repo:push", push(`{"new":{"type":"annotated_tag","name":"v1.0.0","target":{"hash":"` + hashA + `"}},"old":null}`),
			`{"kind":"cloud","event":"repo:push",` + cloudRepo + `,"refs":[{"type":"tag","name":"v1.0.0","change":"created","new":"` + hashA + `"}],` + cloudActor + `}`},
		"cloud two changes": {Cloud, "repo:push", push(`{` + side("new", hashA) + `,"old":null},{` + side("old", hashB) + `,"new":null}`),
			`{"kind":"cloud","event":"repo:push",` + cloudRepo + `,"refs":[{"type":"branch","name":"main","change":"created","new":"` + hashA + `"},{"type":"branch","name":"main","change":"deleted","old":"` + hashB + `"}],` + cloudActor + `}`},
		"cloud merge": {Cloud, "pullrequest:fulfilled", cloudMerged, `{"kind":"cloud","event":"pullrequest:fulfilled",` + cloudRepo + `,` +
			`"refs":[{"type":"branch","name":"main","change":"updated","new":"fedcba987654"}],"pull_request":{"id":7,"state":"MERGED","source":{"branch":"fix","commit":"abcdef012345"},` +
			`"destination":{` + cloudRepo + `,"branch":"main","commit":"0123456789ab"},"merge_commit":"fedcba987654","url":"https://bitbucket.org/acme/app/pull-requests/7"},"actor":{}}`},
		"data center push": {DataCenter, "repo:refs_changed", serverPush, `{"kind":"data_center","event":"repo:refs_changed","repository":{"id":12,"full_name":"PRJ/app","project":"PRJ","urls":["https://bb.example/scm/prj/app.git","ssh://git@bb.example:7999/prj/app.git"]},` +
			`"refs":[{"type":"branch","name":"main","change":"updated","old":"` + hashB + `","new":"` + hashA + `"}],"actor":{"id":4,"kind":"normal"}}`},
		"data center of 2018": {DataCenter, "repo:refs_changed", `{"eventKey":"repo:refs_changed","actor":{"id":4,"type":"NORMAL"},"repository":{"slug":"app","id":12,"project":{"key":"~ada"}},` +
			`"changes":[{"refId":"refs/tags/v1","fromHash":"` + zeros + `","toHash":"` + hashA + `","type":"ADD"}]}`,
			`{"kind":"data_center","event":"repo:refs_changed","repository":{"id":12,"full_name":"~ada/app","project":"~ada"},"refs":[{"type":"tag","name":"v1","change":"created","new":"` + hashA + `"}],"actor":{"id":4,"kind":"normal"}}`},
		"data center deletion": {DataCenter, "repo:refs_changed", replaced(t, replaced(t, serverPush, `"toHash":"`+hashA, `"toHash":"`+zeros), "UPDATE", "DELETE"),
			`{"kind":"data_center","event":"repo:refs_changed","repository":{"id":12,"full_name":"PRJ/app","project":"PRJ","urls":["https://bb.example/scm/prj/app.git","ssh://git@bb.example:7999/prj/app.git"]},` +
				`"refs":[{"type":"branch","name":"main","change":"deleted","old":"` + hashB + `"}],"actor":{"id":4,"kind":"normal"}}`},
		"data center merge": {DataCenter, "pr:merged", serverMerged, `{"kind":"data_center","event":"pr:merged","repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"refs":[{"type":"branch","name":"main","change":"updated","new":"` + strings.Repeat("e", 40) + `"}],` +
			`"pull_request":{"id":9,"state":"MERGED","source":{"repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"branch":"fix","commit":"` + strings.Repeat("c", 40) + `"},` +
			`"destination":{"repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"branch":"main","commit":"` + strings.Repeat("d", 40) + `"},"merge_commit":"` + strings.Repeat("e", 40) + `","url":"https://bb.example/projects/PRJ/repos/app/pull-requests/9"},"actor":{"id":4,"kind":"normal"}}`},
		"a mirror that lists none": {DataCenter, "mirror:repo_synchronized", `{"eventKey":"mirror:repo_synchronized","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}},"mirrorServer":{"id":"m"},"refLimitExceeded":true,"changes":[]}`,
			`{"kind":"data_center","event":"mirror:repo_synchronized","repository":{"id":12,"full_name":"PRJ/app","project":"PRJ"},"actor":{},"incomplete":true}`},
		"a key of another case that is not read": {Cloud, "repo:created", `{` + cloudSkeleton + `,"x":{},"X":{}}`,
			`{"kind":"cloud","event":"repo:created",` + cloudRepo + `,` + cloudActor + `}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Parse(c.kind, c.key, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := asJSON(t, e); got != c.want {
				t.Errorf("read as\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// TestBodiesThatAreAnotherEvent: the event key is not signed, so that a body decides
// whether it can be that event.
func TestBodiesThatAreAnotherEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind      Kind
		key, body string
	}{
		"a merge as a push":             {Cloud, "repo:push", cloudMerged},
		"a push as a merge":             {Cloud, "pullrequest:fulfilled", cloudPush},
		"a push as a deletion":          {Cloud, "repo:deleted", cloudPush},
		"an open one as merged":         {Cloud, "pullrequest:fulfilled", replaced(t, cloudMerged, "MERGED", "OPEN")},
		"a merged one as declined":      {Cloud, "pullrequest:rejected", cloudMerged},
		"a merged one as created":       {Cloud, "pullrequest:created", cloudMerged},
		"a comment on a merged one":     {Cloud, "pullrequest:fulfilled", replaced(t, cloudMerged, `{"actor"`, `{"comment":{},"actor"`)},
		"an approval of a merged one":   {Cloud, "pullrequest:fulfilled", replaced(t, cloudMerged, `{"actor"`, `{"approval":{},"actor"`)},
		"another key in the body":       {DataCenter, "pr:declined", serverMerged},
		"no key in the body":            {DataCenter, "repo:refs_changed", replaced(t, serverPush, `"eventKey":"repo:refs_changed",`, "")},
		"a push of the other product":   {DataCenter, "repo:refs_changed", cloudPush},
		"a push of the other product 2": {Cloud, "repo:push", serverPush},
		"a list instead of an object":   {Cloud, "repo:push", `{"repository":{},"push":[]}`},
	} {
		if e, err := Parse(c.kind, c.key, []byte(c.body)); err == nil {
			t.Errorf("%s: read as %s", name, asJSON(t, e))
		}
	}
}

func TestBodiesThatAreNone(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"nothing":              "",
		"no JSON":              "invalid json",
		"a list":               "[" + cloudPush + "]",
		"null":                 "null",
		"two values":           cloudPush + cloudPush,
		"cut off":              cloudPush[:len(cloudPush)-1],
		"a byte order mark":    "\ufeff" + cloudPush,
		"not UTF-8":            replaced(t, cloudPush, "main", "m\xffin"),
		"a key twice":          replaced(t, cloudPush, `{"actor"`, `{"push":{"changes":[]},"actor"`),
		"a key twice, inside":  replaced(t, cloudPush, `"full_name":"acme/egress-policy"`, `"full_name":"acme/a","full_name":"acme/b"`),
		"a key in two cases":   replaced(t, cloudPush, `{"actor"`, `{"Repository":{"full_name":"acme/evil"},"actor"`),
		"a key in capitals":    replaced(t, cloudPush, `"full_name"`, `"FULL_NAME"`),
		"a key with a long s":  replaced(t, cloudPush, `{"actor"`, `{"pu\u017fh":{"changes":[]},"actor"`),
		"too deep":             replaced(t, cloudPush, `{"actor"`, `{"x":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`,"actor"`),
		"a number as a name":   replaced(t, cloudPush, `"full_name":"acme/egress-policy"`, `"full_name":7`),
		"no UUID":              replaced(t, cloudPush, `"{22222222-0000-4000-8000-000000000002}"`, `"22222222"`),
		"no repository":        replaced(t, cloudPush, `"full_name":"acme/egress-policy",`, ""),
		"changes as an object": replaced(t, replaced(t, cloudPush, `"changes":[`, `"changes":{"a":`), `}}}]}}`, `}}}}}}`),
		"a change as a text":   replaced(t, cloudPush, `"changes":[`, `"changes":["main",`),
		"neither old nor new":  replaced(t, cloudPush, `"changes":[`, `"changes":[{"old":null,"new":null},`),
		"another type of ref":  replaced(t, cloudPush, `"type":"branch"`, `"type":"bookmark"`),
		"a ref without a name": replaced(t, cloudPush, `"name":"main"`, `"name":""`),
		"a ref with a newline": replaced(t, cloudPush, `"name":"main"`, `"name":"ma\nin"`),
		"a ref that climbs":    replaced(t, cloudPush, `"name":"main"`, `"name":"../main"`),
		"no hash":              replaced(t, cloudPush, hashA, "HEAD"),
		"a hash too long":      replaced(t, cloudPush, hashA, hashA+hashA),
	} {
		e, err := Parse(Cloud, "repo:push", []byte(body))
		if err == nil {
			t.Errorf("%s: read as %s", name, asJSON(t, e))
		} else if len(err.Error()) > 200 || strings.Contains(err.Error(), "acme/") {
			t.Errorf("%s: the error repeats the body: %v", name, err)
		}
	}
	for _, body := range []string{
		replaced(t, serverPush, `"type":"UPDATE"`, `"type":"MOVE"`), replaced(t, serverPush, `"refs/heads/main"`, `"main"`),
		replaced(t, serverPush, `"id":12`, `"id":1.5`), replaced(t, serverPush, `"slug":"app",`, ""),
	} {
		if e, err := Parse(DataCenter, "repo:refs_changed", []byte(body)); err == nil {
			t.Errorf("read as %s", asJSON(t, e))
		}
	}
	if _, err := Parse(Cloud, "repo:pushed", []byte(cloudPush)); !errors.Is(err, ErrUnknownEvent) || !strings.Contains(err.Error(), "repo:pushed") {
		t.Errorf("another event: %v", err)
	}
}

// TestEveryEventIsRead: a body of each documented event is read, and one that lacks an
// object that it needs is not.
func TestEveryEventIsRead(t *testing.T) {
	t.Parallel()
	for kind, events := range shapes {
		for key, shape := range events {
			state := "OPEN"
			if len(shape.states) > 0 {
				state = shape.states[0]
			}
			parts := map[string]string{
				"repository":  `{"full_name":"a/b","uuid":"{22222222-0000-4000-8000-000000000003}","id":1,"slug":"b","project":{"key":"a"}}`,
				"push":        `{"changes":[]}`,
				"pullrequest": `{"id":1,"state":"` + state + `","destination":{"branch":{"name":"main"}}}`,
				"pullRequest": `{"id":1,"state":"` + state + `","toRef":{"id":"refs/heads/main","repository":{"slug":"b","project":{"key":"a"}}}}`,
				"new":         `{"slug":"b","project":{"key":"a"}}`,
			}
			body := func(without string) string {
				members := []string{fmt.Sprintf(`"eventKey":%q`, key)}
				for _, name := range shape.needs {
					if name != without {
						if parts[name] == "" {
							parts[name] = "{}"
						}
						members = append(members, fmt.Sprintf("%q:%s", name, parts[name]))
					}
				}
				return "{" + strings.Join(members, ",") + "}"
			}
			if _, err := Parse(kind, key, []byte(body(""))); err != nil {
				t.Errorf("%s %s: %v", kind, key, err)
			}
			for _, name := range shape.needs {
				if _, err := Parse(kind, key, []byte(body(name))); err == nil {
					t.Errorf("%s %s is read without %s", kind, key, name)
				}
			}
		}
	}
	if n, m := len(shapes[Cloud]), len(shapes[DataCenter]); n != 27 || m != 24 {
		t.Errorf("%d events of Cloud and %d of Data Center: the documented ones are 27 and 24", n, m)
	}
}

// TestManyRefs: a delivery with more refs than are listed is not read as if these were all.
func TestManyRefs(t *testing.T) {
	t.Parallel()
	var changes []string
	for i := range MaxRefs + 1 {
		changes = append(changes, fmt.Sprintf(`{"new":{"type":"branch","name":"b%d","target":{"hash":%q}},"old":null}`, i, hashA))
	}
	body := func(n int) []byte {
		return []byte(`{"repository":{"full_name":"a/b","uuid":"{22222222-0000-4000-8000-000000000003}"},"push":{"changes":[` + strings.Join(changes[:n], ",") + `]}}`)
	}
	for n, incomplete := range map[int]bool{MaxRefs: false, MaxRefs + 1: true} {
		e, err := Parse(Cloud, "repo:push", body(n))
		if err != nil || len(e.Refs) != MaxRefs || e.Incomplete != incomplete {
			t.Errorf("%d refs: %d listed, incomplete %v: %v", n, len(e.Refs), e.Incomplete, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(true, "repo:push", []byte(cloudPush))
	f.Add(true, "pullrequest:fulfilled", []byte(cloudMerged))
	f.Add(false, "repo:refs_changed", []byte(serverPush))
	f.Add(false, "pr:merged", []byte(serverMerged))
	f.Fuzz(func(t *testing.T, cloud bool, key string, body []byte) {
		kind := DataCenter
		if cloud {
			kind = Cloud
		}
		e, err := Parse(kind, key, body)
		if (e == nil) == (err == nil) {
			t.Fatalf("an event %v and an error %v", e, err)
		}
		if err != nil {
			return
		}
		if e.Key != key || len(e.Refs) > MaxRefs {
			t.Errorf("read as %s", asJSON(t, e))
		}
		if r := e.Repository; r != nil {
			for _, address := range r.URLs { // each belongs to the repository that a receiver admits
				if normal, err := NormalizeURL(address); err == nil && !r.hasClone(normal) && !r.hasPage(normal) {
					t.Errorf("%q has the address %q", r.FullName, address)
				}
			}
			if e.PullRequest != nil && e.PullRequest.Destination.Repository.differs(r) {
				t.Errorf("read as %s", asJSON(t, e))
			}
		}
		for _, r := range e.Refs {
			if r.Type == "" || r.Change == "" || !validRefName(r.Name) {
				t.Errorf("a ref %+v", r)
			}
		}
	})
}
