package resource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/webhook"
)

const cloudRepository = `"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000002}","links":{"html":{"href":"https://bitbucket.org/acme/app"}}}`

func cloudChange(before, after string) string {
	ref := func(text string) string {
		if text == "" {
			return "null"
		}
		kind, name, _ := strings.Cut(text, ":")
		return fmt.Sprintf(`{"type":%q,"name":%q,"target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}}`, kind, name)
	}
	return fmt.Sprintf(`{"old":%s,"new":%s}`, ref(before), ref(after))
}

func cloudPush(changes ...string) string {
	return `{"actor":{},` + cloudRepository + `,"push":{"changes":[` + strings.Join(changes, ",") + `]}}`
}

func cloudPullRequest(state string) string {
	return `{"actor":{},` + cloudRepository + `,"pullrequest":{"id":7,"state":"` + state + `","source":{"branch":{"name":"fix"}},` +
		`"destination":{"branch":{"name":"main"},"repository":{"full_name":"acme/app","uuid":"{22222222-0000-4000-8000-000000000002}"}},` +
		`"links":{"html":{"href":"https://bitbucket.org/acme/app/pull-requests/7"}}}}`
}

func serverPush(kind, ref string) string {
	return `{"eventKey":"repo:refs_changed","actor":{},"repository":{"slug":"app","id":12,"project":{"key":"PRJ"},"links":{"clone":[` +
		`{"href":"https://bb.example/bitbucket/scm/prj/app.git"},{"href":"ssh://git@bb.example:7999/prj/app.git"}]}},` +
		`"changes":[{"ref":{"id":"` + ref + `"},"fromHash":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","toHash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","type":"` + kind + `"}]}`
}

func serverPullRequest(key, state string) string {
	side := `{"id":"refs/heads/main","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}}}`
	return `{"eventKey":"` + key + `","actor":{},"pullRequest":{"id":9,"state":"` + state + `","fromRef":` + side + `,"toRef":` + side +
		`,"links":{"self":[{"href":"https://bb.example/projects/PRJ/repos/app/pull-requests/9"}]}}}`
}

// compile makes a condition of lines "repository X", "branch X", "tag X" and "pr X".
func compile(t testing.TB, lines ...string) Match {
	t.Helper()
	var m Match
	for _, line := range lines {
		key, text, _ := strings.Cut(line, " ")
		var err error
		var p Pattern
		switch key {
		case "repository":
			text, err = webhook.NormalizeURL(text)
			m.Repositories = append(m.Repositories, text)
		case "branch":
			p, err = ParsePattern(text)
			m.Branches = append(m.Branches, p)
		case "tag":
			p, err = ParsePattern(text)
			m.Tags = append(m.Tags, p)
		case "pr":
			p, err = ParsePullRequestPattern(text)
			m.PullRequests = append(m.PullRequests, p)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return m
}

// TestMatches has Kargo's cases about subscriptions by their intent, the deletion that Kargo
// takes for a refresh of everything, and the forms of a repository's address.
func TestMatches(t *testing.T) {
	t.Parallel()
	push := cloudPush(cloudChange("branch:main", "branch:main"))
	tag := cloudPush(cloudChange("", "tag:v1.0.0"))
	for name, c := range map[string]struct {
		key, body, match string
		want             bool
	}{
		"https":                        {"repo:push", push, "repository https://bitbucket.org/acme/app.git", true},
		"ssh":                          {"repo:push", push, "repository ssh://git@bitbucket.org/acme/app.git", true},
		"scp form":                     {"repo:push", push, "repository git@bitbucket.org:Acme/App.git", true},
		"another repository":           {"repo:push", push, "repository https://bitbucket.org/acme/apps", false},
		"another host":                 {"repo:push", push, "repository https://bitbucket.example/acme/app", false},
		"branch matches":               {"repo:push", push, "repository https://bitbucket.org/acme/app|branch main", true},
		"branch does not match":        {"repo:push", push, "repository https://bitbucket.org/acme/app|branch not-main", false},
		"branch pattern":               {"repo:push", cloudPush(cloudChange("", "branch:release/1.2")), "repository https://bitbucket.org/acme/app|branch release/*", true},
		"pattern keeps segments":       {"repo:push", cloudPush(cloudChange("", "branch:release/1/2")), "repository https://bitbucket.org/acme/app|branch release/*", false},
		"pattern across segments":      {"repo:push", cloudPush(cloudChange("", "branch:release/1/2")), "repository https://bitbucket.org/acme/app|branch release/**", true},
		"tag matches":                  {"repo:push", tag, "repository https://bitbucket.org/acme/app|tag v*", true},
		"tag is not a branch":          {"repo:push", tag, "repository https://bitbucket.org/acme/app|branch **", false},
		"branch is not a tag":          {"repo:push", push, "repository https://bitbucket.org/acme/app|tag **", false},
		"delete only":                  {"repo:push", cloudPush(cloudChange("branch:main", "")), "repository https://bitbucket.org/acme/app", false},
		"delete only, with a branch":   {"repo:push", cloudPush(cloudChange("branch:main", "")), "repository https://bitbucket.org/acme/app|branch main", false},
		"one of several":               {"repo:push", cloudPush(cloudChange("branch:x", ""), cloudChange("branch:y", "branch:y"), cloudChange("", "branch:main")), "repository https://bitbucket.org/acme/app|branch main", true},
		"no changes":                   {"repo:push", cloudPush(), "repository https://bitbucket.org/acme/app", false},
		"an event without refs":        {"repo:updated", `{"actor":{},` + cloudRepository + `}`, "repository https://bitbucket.org/acme/app", false},
		"server by ssh":                {"repo:refs_changed", serverPush("UPDATE", "refs/heads/main"), "repository ssh://git@bb.example:7999/PRJ/app.git|branch main", true},
		"server by ssh, another port":  {"repo:refs_changed", serverPush("UPDATE", "refs/heads/main"), "repository ssh://git@bb.example:7998/PRJ/app.git", false},
		"server by https with context": {"repo:refs_changed", serverPush("ADD", "refs/heads/main"), "repository https://bb.example/bitbucket/scm/prj/app.git", true},
		"server deletes":               {"repo:refs_changed", serverPush("DELETE", "refs/heads/main"), "repository https://bb.example/bitbucket/scm/prj/app.git", false},
		"server at its limit of refs":  {"repo:refs_changed", strings.Replace(serverPush("ADD", "refs/heads/x"), `"changes"`, `"refLimitExceeded":true,"changes"`, 1), "repository https://bb.example/bitbucket/scm/prj/app.git|branch main", true},
		"merge moves its branch":       {"pullrequest:fulfilled", cloudPullRequest("MERGED"), "repository https://bitbucket.org/acme/app|branch main", true},
		"decline moves no branch":      {"pullrequest:rejected", cloudPullRequest("DECLINED"), "repository https://bitbucket.org/acme/app|branch main", false},
		"merged pull request":          {"pullrequest:fulfilled", cloudPullRequest("MERGED"), "pr https://bitbucket.org/acme/app/pull-requests/7", true},
		"declined pull request":        {"pullrequest:rejected", cloudPullRequest("DECLINED"), "pr https://bitbucket.org/Acme/app/pull-requests/*", true},
		"another pull request":         {"pullrequest:fulfilled", cloudPullRequest("MERGED"), "pr https://bitbucket.org/acme/app/pull-requests/8", false},
		"open pull request":            {"pullrequest:created", cloudPullRequest("OPEN"), "pr https://bitbucket.org/acme/app/pull-requests/*", false},
		"server merges":                {"pr:merged", serverPullRequest("pr:merged", "MERGED"), "pr https://bb.example/projects/PRJ/repos/app/pull-requests/9", true},
		"server declines":              {"pr:declined", serverPullRequest("pr:declined", "DECLINED"), "pr https://bb.example/projects/PRJ/repos/app/pull-requests/9", true},
		"server, another":              {"pr:merged", serverPullRequest("pr:merged", "MERGED"), "pr https://bb.example/projects/PRJ/repos/other/**", false},
		"push, pull requests only":     {"repo:push", push, "pr https://bitbucket.org/**", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := webhook.Parse(kindOf(c.key), c.key, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			m := compile(t, strings.Split(c.match, "|")...)
			if got := m.Matches(e); got != c.want {
				t.Errorf("Matches = %t", got)
			}
			if (&Match{}).Matches(e) || m.Matches(nil) {
				t.Error("the zero condition, or no event, matches")
			}
		})
	}
}

func TestBadPatterns(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "refs/heads/main", "a***", "v[0-9]", "v?", "a b", "{a,b}", `a\b`, "a\x00", "\xff", strings.Repeat("a", 251)} {
		if p, err := ParsePattern(text); err == nil || p.Matches(text) {
			t.Errorf("%q is accepted", text)
		}
	}
	for _, text := range []string{"", "bitbucket.org/acme/*", "https://bitbucket.org/acme?x", "https://u:p@bitbucket.org/*", "https://bitbucket.org/#x"} {
		if _, err := ParsePullRequestPattern(text); err == nil {
			t.Errorf("%q is accepted", text)
		}
	}
}

// TestRepositoriesOfOthers: a delivery that is admitted for one repository, by its name or its
// UUID, does not match the address of another one that it writes elsewhere.
func TestRepositoriesOfOthers(t *testing.T) {
	t.Parallel()
	const admitted, other, otherUUID = "acme/app", "acme/deploy", "{22222222-0000-4000-8000-000000000009}"
	links := `"links":{"html":{"href":"https://bitbucket.org/acme/deploy"},"clone":[{"href":"https://bitbucket.org/acme/deploy.git"}]}`
	repository := func(name, uuid, rest string) string {
		return fmt.Sprintf(`{"full_name":%q,"uuid":%q,%s}`, name, uuid, rest)
	}
	const uuid = "{22222222-0000-4000-8000-000000000002}"
	pull := func(source, destination, page string) string {
		return `{"actor":{},"repository":` + repository(admitted, uuid, links) + `,"pullrequest":{"id":7,"state":"MERGED","source":{"branch":{"name":"fix"},"repository":` + source +
			`},"destination":{"branch":{"name":"main"},"repository":` + destination + `},"links":{"html":{"href":"` + page + `"}}}}`
	}
	server := strings.NewReplacer("scm/prj/app", "scm/prj/deploy", "7999/prj/app", "7999/prj/deploy", "repos/app/", "repos/deploy/")
	own := repository(admitted, uuid, links)
	for name, c := range map[string]struct {
		key, body string
		invalid   bool
	}{
		"links of a push":            {"repo:push", `{"repository":` + own + `,"push":{"changes":[` + cloudChange("", "branch:main") + `]}}`, false},
		"links of a merge":           {"pullrequest:fulfilled", pull(own, own, "https://bitbucket.org/acme/deploy/pull-requests/7"), false},
		"source is another":          {"pullrequest:fulfilled", pull(repository(other, otherUUID, links), own, "https://bitbucket.org/acme/app/pull-requests/7"), false},
		"destination is another":     {"pullrequest:fulfilled", pull(own, repository(other, otherUUID, links), "https://bitbucket.org/acme/deploy/pull-requests/7"), true},
		"destination, by the name":   {"pullrequest:fulfilled", pull("null", repository(other, uuid, links), ""), true},
		"destination, by the UUID":   {"pullrequest:fulfilled", pull("null", repository(admitted, otherUUID, links), ""), true},
		"source with the UUID":       {"pullrequest:fulfilled", pull(repository(other, uuid, links), own, ""), true},
		"clone links of a push":      {"repo:refs_changed", server.Replace(serverPush("UPDATE", "refs/heads/main")), true},
		"page of a merge":            {"pr:merged", server.Replace(serverPullRequest("pr:merged", "MERGED")), true},
		"repository beside the side": {"pr:merged", strings.Replace(serverPullRequest("pr:merged", "MERGED"), `"actor":{}`, `"actor":{},"repository":{"slug":"deploy","id":13,"project":{"key":"PRJ"}}`, 1), true},
	} {
		e, err := webhook.Parse(kindOf(c.key), c.key, []byte(c.body))
		if (err != nil) != c.invalid {
			t.Errorf("%s: %v", name, err)
		}
		m := compile(t, "repository https://bitbucket.org/acme/deploy", "repository https://bb.example/bitbucket/scm/prj/deploy.git", "pr https://bitbucket.org/acme/deploy/**",
			"pr https://bb.example/projects/PRJ/repos/deploy/**")
		if err == nil && m.Matches(e) {
			t.Errorf("%s: the other repository matches", name)
		}
		if m := compile(t, "repository https://bitbucket.org/acme/app"); err == nil && !m.Matches(e) {
			t.Errorf("%s: the admitted repository does not match", name)
		}
	}
}

// TestKindOf: an event key determines its product.
func TestKindOf(t *testing.T) {
	t.Parallel()
	for _, kind := range []webhook.Kind{webhook.Cloud, webhook.DataCenter} {
		for _, key := range webhook.Events(kind) {
			if kindOf(key) != kind {
				t.Errorf("%s is an event of both products", key)
			}
		}
	}
}

// FuzzPattern compares patterns with a matcher that tries every division of the text.
func FuzzPattern(f *testing.F) {
	for _, seed := range [][2]string{{"main", "main"}, {"release/*", "release/1/2"}, {"**/x", "a/b/x"}, {"a*b**c", "a/b/c"}, {"v1.*", "v1x2"}, {"*\n", "\n"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 12 || len(text) > 24 {
			return
		}
		p, err := ParsePattern(pattern)
		if err != nil {
			return
		}
		if got, want := p.Matches(text), divide(pattern, text); got != want {
			t.Errorf("%q matches %q: %t, want %t", pattern, text, got, want)
		}
	})
}

func divide(pattern, text string) bool {
	if pattern == "" {
		return text == ""
	}
	rest, across := strings.CutPrefix(pattern, "**")
	within := false
	if !across {
		rest, within = strings.CutPrefix(pattern, "*")
	}
	if !across && !within {
		return text != "" && text[0] == pattern[0] && divide(pattern[1:], text[1:])
	}
	for i := 0; i <= len(text); i++ {
		if within && strings.Contains(text[:i], "/") {
			break
		}
		if divide(rest, text[i:]) {
			return true
		}
	}
	return false
}

// FuzzMatches: a verified body of any content matches or does not; without a created or
// updated ref it does not.
func FuzzMatches(f *testing.F) {
	f.Add("repo:push", cloudPush(cloudChange("branch:main", "branch:main")))
	f.Add("repo:push", cloudPush(cloudChange("branch:main", "")))
	f.Add("repo:refs_changed", serverPush("DELETE", "refs/heads/main"))
	f.Add("pullrequest:rejected", cloudPullRequest("DECLINED"))
	m := compile(f, "repository https://bitbucket.org/acme/app", "repository https://bb.example/bitbucket/scm/prj/app.git")
	f.Fuzz(func(t *testing.T, key, body string) {
		e, err := webhook.Parse(kindOf(key), key, []byte(body))
		if err != nil {
			return
		}
		moved := e.Incomplete
		for _, r := range e.Refs {
			moved = moved || r.Change != webhook.Deleted
		}
		if m.Matches(e) && !moved {
			t.Errorf("an event without a moved ref matches: %s", body)
		}
	})
}
