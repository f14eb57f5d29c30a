package webhook

import (
	"strings"
	"testing"
)

// cloudChange is a change of a push of Cloud; an empty name stands for null.
func cloudChange(kind, before, after string) string {
	ref := func(name, hash string) string {
		if name == "" {
			return "null"
		}
		return `{"type":"` + kind + `","name":"` + name + `","target":{"hash":"` + strings.Repeat(hash, 40) + `"}}`
	}
	return `{"new":` + ref(after, "a") + `,"old":` + ref(before, "b") + `}`
}

func cloudPushOf(changes ...string) string {
	return `{"repository":{"full_name":"acme/egress-policy","uuid":"{22222222-0000-4000-8000-000000000002}"},"push":{"changes":[` + strings.Join(changes, ",") + `]}}`
}

func serverChange(ref, change string) string {
	return `{"ref":{"id":"` + ref + `"},"fromHash":"` + hashB + `","toHash":"` + hashA + `","type":"` + change + `"}`
}

func serverPushOf(key, more string, changes ...string) string {
	return `{"eventKey":"` + key + `","repository":{"slug":"app","id":12,"project":{"key":"PRJ"}},` + more + `"changes":[` + strings.Join(changes, ",") + `]}`
}

// TestAffectsBranch: of what Bitbucket sends, only what can move the branch main affects it.
func TestAffectsBranch(t *testing.T) {
	t.Parallel()
	var many []string
	for range MaxRefs + 1 {
		many = append(many, cloudChange("branch", "other", "other"))
	}
	for name, c := range map[string]struct {
		kind      Kind
		key, body string
		want      bool
	}{
		"update":                      {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "main", "main")), true},
		"creation":                    {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "", "main")), true},
		"deletion":                    {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "main", "")), false},
		"no change":                   {Cloud, "repo:push", cloudPushOf(), false},
		"another branch":              {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "dev", "dev")), false},
		"a branch with this ending":   {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "x/main", "x/main")), false},
		"a branch named like the ref": {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "refs/heads/main", "refs/heads/main")), false},
		"another case":                {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "Main", "Main")), false},
		"a tag of this name":          {Cloud, "repo:push", cloudPushOf(cloudChange("tag", "main", "main")), false},
		"an annotated tag":            {Cloud, "repo:push", cloudPushOf(cloudChange("annotated_tag", "", "main")), false},
		"the last of several":         {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "old", ""), cloudChange("tag", "", "v1"), cloudChange("branch", "main", "main")), true},
		"deletion among several":      {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "main", ""), cloudChange("branch", "dev", "dev")), false},
		"renamed to":                  {Cloud, "repo:push", cloudPushOf(cloudChange("branch", "trunk", ""), cloudChange("branch", "", "main")), true},
		"more refs than are listed":   {Cloud, "repo:push", cloudPushOf(many...), true},
		"merge":                       {Cloud, "pullrequest:fulfilled", cloudMerged, true},
		"merge into another branch":   {Cloud, "pullrequest:fulfilled", replaced(t, cloudMerged, `"destination":{"branch":{"name":"main"}`, `"destination":{"branch":{"name":"dev"}`), false},
		"merge from a branch main":    {Cloud, "pullrequest:fulfilled", replaced(t, replaced(t, cloudMerged, `"name":"main"`, `"name":"dev"`), `"name":"fix"`, `"name":"main"`), false},
		"an open pull request":        {Cloud, "pullrequest:updated", replaced(t, cloudMerged, "MERGED", "OPEN"), false},
		"declined":                    {Cloud, "pullrequest:rejected", replaced(t, cloudMerged, "MERGED", "DECLINED"), false},
		"renamed repository":          {Cloud, "repo:updated", `{"repository":{"full_name":"a/b","uuid":"{22222222-0000-4000-8000-000000000003}"}}`, false},
		"commit status":               {Cloud, "repo:commit_status_updated", `{"repository":{"full_name":"a/b","uuid":"{22222222-0000-4000-8000-000000000003}"},"commit_status":{}}`, false},
		"server update":               {DataCenter, "repo:refs_changed", serverPush, true},
		"server creation":             {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", "", serverChange("refs/heads/main", "ADD")), true},
		"server deletion":             {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", "", serverChange("refs/heads/main", "DELETE")), false},
		"server tag":                  {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", "", serverChange("refs/tags/main", "ADD")), false},
		"server another branch":       {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", "", serverChange("refs/heads/dev", "UPDATE")), false},
		"server several":              {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", "", serverChange("refs/heads/main", "DELETE"), serverChange("refs/heads/dev", "UPDATE"), serverChange("refs/heads/main", "ADD")), true},
		"server no change":            {DataCenter, "repo:refs_changed", serverPushOf("repo:refs_changed", ""), false},
		"server merge":                {DataCenter, "pr:merged", serverMerged, true},
		"server merge elsewhere":      {DataCenter, "pr:merged", replaced(t, serverMerged, `"toRef":{"id":"refs/heads/main"`, `"toRef":{"id":"refs/heads/dev"`), false},
		"mirror":                      {DataCenter, "mirror:repo_synchronized", serverPushOf("mirror:repo_synchronized", `"mirrorServer":{},`, serverChange("refs/heads/main", "UPDATE")), true},
		"mirror of another branch":    {DataCenter, "mirror:repo_synchronized", serverPushOf("mirror:repo_synchronized", `"mirrorServer":{},`, serverChange("refs/heads/dev", "UPDATE")), false},
		"mirror that lists no change": {DataCenter, "mirror:repo_synchronized", serverPushOf("mirror:repo_synchronized", `"mirrorServer":{},"refLimitExceeded":true,`), true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := Parse(c.kind, c.key, []byte(c.body))
			if err != nil {
				t.Fatal(err)
			}
			if got := AffectsBranch(e, "main"); got != c.want {
				t.Errorf("affects main: %v, want %v: %s", got, c.want, asJSON(t, e))
			}
			if AffectsBranch(e, "") {
				t.Error("affects a branch without a name")
			}
		})
	}
	if AffectsBranch(nil, "main") || AffectsBranch(&Event{Refs: []Ref{{Type: Branch, Name: "main", Change: Updated}}}, "main") {
		t.Error("an event of no kind affects a branch")
	}
}

// TestAffectsTag: a policy that follows a tag is affected by that tag alone.
func TestAffectsTag(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]bool{
		cloudChange("tag", "", "release"):                  true,
		cloudChange("annotated_tag", "release", "release"): true,
		cloudChange("tag", "release", ""):                  false,
		cloudChange("tag", "", "v1"):                       false,
		cloudChange("branch", "release", "release"):        false,
	} {
		e, err := Parse(Cloud, "repo:push", []byte(cloudPushOf(change)))
		if err != nil {
			t.Fatal(err)
		}
		if got := AffectsTag(e, "release"); got != want {
			t.Errorf("%s: %v, want %v", change, got, want)
		}
	}
}

// TestFromRepository: a repository is another one only where the event has a URL on the host
// of the address.
func TestFromRepository(t *testing.T) {
	t.Parallel()
	cloud := &Repository{FullName: "acme/Egress-Policy", URLs: []string{"https://bitbucket.org/acme/egress-policy"}}
	server := &Repository{FullName: "SEC/egress", URLs: []string{"ssh://git@git.acme.example:7999/sec/egress.git", "https://git.acme.example/scm/sec/egress.git", "https://git.acme.example/projects/SEC/repos/egress/browse"}}
	page := &Repository{FullName: "SEC/egress", URLs: []string{"https://git.acme.example/bitbucket/projects/SEC/repos/egress/browse"}}
	for _, c := range []struct {
		repository  *Repository
		address     string
		same, known bool
	}{
		{cloud, "https://bitbucket.org/acme/egress-policy.git", true, true},
		{cloud, "ssh://git@bitbucket.org/acme/egress-policy.git", true, true},
		{cloud, "git@bitbucket.org:acme/egress-policy.git", true, true},
		{cloud, "https://bitbucket.org/acme/other.git", false, true},
		{cloud, "https://bitbucket.org/other/egress-policy.git", false, true},
		{cloud, "https://bitbucket.org/acme/my-egress-policy.git", false, true},
		{cloud, "https://mirror.acme.example/policy.git", false, false},
		{cloud, "ssh://git@altssh.bitbucket.org:443/acme/egress-policy.git", false, false},
		{cloud, "/srv/policy.git", false, false},
		{cloud, "", false, false},
		{server, "ssh://git@git.acme.example:7999/sec/egress.git", true, true},
		{server, "https://git.acme.example/scm/SEC/egress.git", true, true},
		{server, "https://git.acme.example:8443/scm/sec/egress.git", true, true},
		{server, "https://git.acme.example/scm/sec/other.git", false, true},
		{page, "https://git.acme.example/bitbucket/scm/sec/egress.git", true, true},
		{page, "ssh://git@git.acme.example:7999/sec/app.git", false, true},
		{&Repository{FullName: "SEC/egress"}, "https://git.acme.example/scm/sec/other.git", false, false},
		{&Repository{FullName: "SEC/egress", URLs: []string{"javascript:x", "https://git.acme.example/%2e"}}, "https://git.acme.example/scm/sec/other.git", false, false},
		{nil, "https://bitbucket.org/acme/egress-policy.git", false, false},
	} {
		e := &Event{Repository: c.repository}
		if same, known := e.FromRepository(c.address); same != c.same || known != c.known {
			t.Errorf("%+v from %q: %v, %v", c.repository, c.address, same, known)
		}
	}
	if _, known := (*Event)(nil).FromRepository("https://bitbucket.org/acme/egress-policy.git"); known {
		t.Error("an event that is missing has a repository")
	}
}
