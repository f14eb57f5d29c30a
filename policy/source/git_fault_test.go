package source

import (
	"bytes"
	"errors"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// object writes an object as it is, without git's checks, and returns its name.
func (f *forge) object(kind, content string) string {
	f.t.Helper()
	cmd := exec.Command("git", "hash-object", "-w", "--literally", "-t", kind, "--stdin")
	cmd.Dir, cmd.Stdin = f.work, bytes.NewBufferString(content)
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("hash-object: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// TestMalformedHistory: old objects whose form alone is wrong are accepted; others
// are refused under a kind of their own, with the object and the remedy.
func TestMalformedHistory(t *testing.T) {
	const author = "author Kim <kim@acme.example> 1500000000 +0000\n"
	for _, c := range []struct{ name, commit, kind string }{
		{"time zone of five digits", "author Kim <kim@acme.example> 1500000000 +51800\ncommitter Kim <kim@acme.example> 1500000000 +51800\n", ""},
		{"no space before the address", "author Kim<kim@acme.example> 1500000000 +0000\ncommitter Kim<kim@acme.example> 1500000000 +0000\n", ""},
		{"no address", "author Kim 1500000000 +0000\ncommitter Kim 1500000000 +0000\n", ""},
		{"zeros before the time", "author Kim <kim@acme.example> 01500000000 +0000\n" + strings.Replace(author, "author", "committer", 1), ""},
		{"no committer", author, "missingCommitter"},
		{"two authors", author + author + strings.Replace(author, "author", "committer", 1), "multipleAuthors"},
		{"no author", strings.Replace(author, "author", "committer", 1), "missingAuthor"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f := newForge(t)
			f.commit("egress/a.rego", ruleText)
			tree := strings.TrimSpace(f.git("rev-parse", "HEAD^{tree}"))
			old := f.object("commit", "tree "+tree+"\n"+c.commit+"\nold\n")
			f.git("reset", "--quiet", "--hard", "HEAD")
			head := strings.TrimSpace(f.git("commit-tree", tree, "-p", old, "-m", "new"))
			f.git("update-ref", "refs/heads/main", head)
			if c.kind == "" {
				if s := offered(t, f.source(nil), ""); s.Commit != head {
					t.Errorf("commit %s, want %s", s.Commit, head)
				}
				return
			}
			r := refused(t, f.source(nil), "", MalformedHistory, old)
			for _, part := range []string{c.kind, "git fsck", "filter-repo"} {
				if !strings.Contains(r.Error(), part) {
					t.Errorf("%v does not contain %q", r, part)
				}
			}
		})
	}
}

// TestGitFaultsAreNamed: each way in which a server does not serve has its remedy.
func TestGitFaultsAreNamed(t *testing.T) {
	f := newForge(t)
	f.commit("egress/a.rego", ruleText)
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>no</html>", code) }
	}
	redirect := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, f.url+"x", code) }
	}
	page := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>Log in</title>"))
	}
	for _, c := range []struct {
		name, want string
		answer     http.HandlerFunc
		change     func(*GitConfig)
	}{
		{"301", "write the address that it redirects to in policy.git.url", redirect(301), nil},
		{"302", "write the address that it redirects to", redirect(302), nil},
		{"308", "write the address that it redirects to", redirect(308), nil},
		{"401", "policy.git.credentials_file", status(401), nil},
		{"403", "scope to read repositories", status(403), nil},
		{"404", "no such repository (404)", status(404), nil},
		{"429", "limits requests", status(429), nil},
		{"500", "the server fails", status(500), nil},
		{"login page", "login page", page, nil},
		{"wrong token", "put a valid token in policy.git.credentials_file", nil, func(c *GitConfig) { c.Token = func() (string, error) { return "wrong", nil } }},
		{"authority", "policy.git.ca_file", nil, func(c *GitConfig) { c.CAFile = "" }},
		{"name of the certificate", "policy.git.ca_file", nil, func(c *GitConfig) { c.URL = strings.Replace(c.URL, "127.0.0.1", "localhost", 1) }},
		{"refused", "nothing answers there", nil, func(c *GitConfig) { c.URL = "https://127.0.0.1:1/x.git" }},
		{"resolver", "the host's name is not known", nil, func(c *GitConfig) { c.URL = "https://nowhere.invalid/x.git" }},
		{"branch", "correct policy.git.branch", nil, func(c *GitConfig) { c.Branch = "mian" }},
		{"ssh refused", "nothing answers there", nil, func(c *GitConfig) { c.URL = "ssh://git@127.0.0.1:1/x.git" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.before.Store(nil)
			if c.answer != nil {
				f.before.Store(&c.answer)
			}
			refused(t, f.source(c.change), "", Unreachable, c.want)
		})
	}
}

// TestFullDiskIsNamed: git's texts on a full disk (2.39) lead to the remedy for that, and
// not to those for a malformed history or a server's fault.
func TestFullDiskIsNamed(t *testing.T) {
	for _, text := range []string{
		"fatal: write error: No space left on device; fatal: fetch-pack: invalid index-pack output",
		"fatal: write error: No space left on device; fatal: index-pack failed",
		"error: unable to write file objects/ab/cd: No space left on device; fatal: unpack-objects failed",
		"error: Failure writing output to destination (curl_result = 23, http_code = 200); error: fetch failed.",
		"fatal: write error: File too large; fatal: index-pack failed",
	} {
		err := explainFetch(errors.New(text))
		if refusal, ok := errors.AsType[*Refusal](err); ok || !strings.Contains(err.Error(), "the disk of data_directory is full: make room there") {
			t.Errorf("%s: %v, %v", text, err, refusal)
		}
	}
}
