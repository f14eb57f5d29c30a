package source

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sallyport/sallyport/policy"
)

const gitToken = "s3cret-of-the-repository"

// forge is a repository with a work tree to commit in, served by git's own
// server program over TLS with a token.
type forge struct {
	t      testing.TB
	work   string
	url    string
	ca     string
	asked  atomic.Int64
	before atomic.Pointer[http.HandlerFunc] // answers instead, where it is set
}

func newForge(t testing.TB) *forge {
	t.Helper()
	root := t.TempDir()
	f := &forge{t: t, work: filepath.Join(root, "policy.git")}
	f.git("init", "--quiet", "--initial-branch=main", f.work)
	execPath := strings.TrimSpace(f.git("--exec-path"))
	backend := &cgi.Handler{
		Path: filepath.Join(execPath, "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + root,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		InheritEnv: []string{"PATH"}, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
	}
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.asked.Add(1)
		if user, password, ok := r.BasicAuth(); !ok || user != "x-token-auth" || password != gitToken {
			w.Header().Set("WWW-Authenticate", `Basic realm="forge"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		if before := f.before.Load(); before != nil {
			(*before)(w, r)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	f.url = server.URL + "/policy.git/.git"
	f.ca = filepath.Join(root, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(f.ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// git runs git in the work tree as a developer would.
func (f *forge) git(arguments ...string) string {
	f.t.Helper()
	cmd := exec.Command("git", arguments...)
	if _, err := os.Stat(f.work); err == nil {
		cmd.Dir = f.work
	}
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example")
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %v: %v\n%s", arguments, err, out)
	}
	return string(out)
}

// commit writes files and commits them; an empty text removes the file.
func (f *forge) commit(files ...string) string {
	f.t.Helper()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(f.work, files[i])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			f.t.Fatal(err)
		}
		if files[i+1] == "" {
			f.git("rm", "--quiet", files[i])
			continue
		}
		if err := os.WriteFile(path, []byte(files[i+1]), 0o644); err != nil {
			f.t.Fatal(err)
		}
	}
	f.git("add", "-A")
	f.git("commit", "--quiet", "-m", "policy")
	return f.head()
}

func (f *forge) head() string { return strings.TrimSpace(f.git("rev-parse", "HEAD")) }

// source is a source of the forge; change alters its configuration.
func (f *forge) source(change func(*GitConfig)) *Git {
	f.t.Helper()
	c := GitConfig{
		URL: f.url, Branch: "main", CAFile: f.ca, Token: func() (string, error) { return gitToken, nil },
		Directory: filepath.Join(f.t.TempDir(), "git"),
	}
	if change != nil {
		change(&c)
	}
	g, err := NewGit(c)
	if err != nil {
		f.t.Fatal(err)
	}
	return g
}

const ruleText = "package sallyport.egress\n\nallow contains {\"rule\": \"x\"}\n"

func offered(t testing.TB, g *Git, after string) *policy.Snapshot {
	t.Helper()
	s, err := g.Offer(t.Context(), policy.Revision{Commit: after})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func refused(t testing.TB, g *Git, after string, kind Kind, says string) *Refusal {
	t.Helper()
	s, err := g.Offer(t.Context(), policy.Revision{Commit: after})
	r, ok := errors.AsType[*Refusal](err)
	if !ok || r.Kind != kind || !strings.Contains(err.Error(), says) {
		t.Fatalf("%v, %v\nwant %s and %q", s, err, kind, says)
	}
	if strings.Contains(err.Error(), gitToken) {
		t.Errorf("the token is in the error: %v", err)
	}
	return r
}

func paths(s *policy.Snapshot) string {
	var list []string
	for _, f := range s.Files {
		list = append(list, f.Path)
	}
	return strings.Join(list, " ")
}

func TestGit(t *testing.T) {
	f := newForge(t)
	first := f.commit("egress/a.rego", ruleText, "README.md", "hello", "data/hosts/x.yaml", "a: 1\n", "vendor/sallyport/lib.rego", "package sallyport.lib\n")
	g := f.source(nil)
	s := offered(t, g, "")
	if s.Commit != first || paths(s) != "data/hosts/x.yaml egress/a.rego" || string(s.Files[1].Content) != ruleText {
		t.Errorf("%s: %s", s.Commit, paths(s))
	}
	// What a directory with the same files gives has the same digest.
	d, err := Directory(t.Context(), f.work)
	if err != nil || d.Digest != s.Digest {
		t.Errorf("the directory's digest is %s, the repository's %s (%v)", d.Digest, s.Digest, err)
	}
	if offered(t, g, first) != s {
		t.Error("the same commit was read again")
	}
	second := f.commit("egress/b.rego", ruleText)
	if s = offered(t, g, first); s.Commit != second || !strings.Contains(paths(s), "egress/b.rego") {
		t.Errorf("%s: %s", s.Commit, paths(s))
	}
	// A repository that is lost is fetched again.
	if err := os.RemoveAll(g.config.Directory); err != nil {
		t.Fatal(err)
	}
	if s = offered(t, g, first); s.Commit != second {
		t.Error(s.Commit)
	}
	// The token is nowhere on the disk.
	_ = filepath.WalkDir(g.config.Directory, func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if text, _ := os.ReadFile(path); strings.Contains(string(text), gitToken) {
				t.Errorf("%s holds the token", path)
			}
		}
		return nil
	})
}

func TestGitTagAndFolder(t *testing.T) {
	f := newForge(t)
	f.commit("policy/egress/a.rego", ruleText, "policy-old/egress/a.rego", "package old\n", "egress/outside.rego", "package outside\n")
	f.git("tag", "-a", "-m", "first", "v1")
	tagged := f.head()
	f.commit("policy/egress/a.rego", ruleText+"# later\n")
	g := f.source(func(c *GitConfig) { c.Branch, c.Tag, c.Path = "", "v1", "policy" })
	if s := offered(t, g, ""); s.Commit != tagged || paths(s) != "egress/a.rego" || string(s.Files[0].Content) != ruleText {
		t.Errorf("%s: %s", s.Commit, paths(s))
	}
	refused(t, f.source(func(c *GitConfig) { c.Path = "nowhere" }), "", InvalidTree, "there is no policy in it")
	refused(t, f.source(func(c *GitConfig) { c.Branch = "nowhere" }), "", Unreachable, "there is no refs/heads/nowhere")
}

func TestGitRewound(t *testing.T) {
	f := newForge(t)
	first := f.commit("egress/a.rego", ruleText)
	second := f.commit("egress/a.rego", ruleText+"# later\n")
	g := f.source(nil)
	offered(t, g, "")
	f.git("reset", "--quiet", "--hard", first)
	if r := refused(t, g, second, Rewound, "does not follow on "+second); r.Commit != first {
		t.Errorf("the commit is %s", r.Commit)
	}
	// Without the check the old state decides again.
	accepting := f.source(func(c *GitConfig) { c.AllowRewind = true })
	if s := offered(t, accepting, second); s.Commit != first || !accepting.Rewound() {
		t.Errorf("%s, rewound: %v", s.Commit, accepting.Rewound())
	}
	// Other history with the same name, and one that a new clone cannot know.
	f.git("checkout", "--quiet", "--orphan", "other")
	f.commit("egress/a.rego", ruleText)
	f.git("branch", "--force", "main", "other")
	refused(t, g, second, Rewound, "does not follow on")
	refused(t, f.source(nil), second, Rewound, "does not follow on")
	// A revert follows on what it reverts.
	f.git("checkout", "--quiet", "main")
	f.git("reset", "--quiet", "--hard", second)
	f.git("revert", "--no-edit", second)
	if s := offered(t, g, second); s.Commit != f.head() || g.Rewound() {
		t.Error(s.Commit)
	}
}

func TestGitSigned(t *testing.T) {
	f := newForge(t)
	keys := t.TempDir()
	for _, name := range []string{"kim", "eve"} {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name+"@acme.example", "-f", filepath.Join(keys, name)).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	signers, err := ReadSigners(filepath.Join(keys, "kim.pub"))
	if err != nil {
		t.Fatal(err)
	}
	g := f.source(func(c *GitConfig) { c.Signers = signers })
	unsigned := f.commit("egress/a.rego", ruleText)
	if r := refused(t, g, "", Unsigned, "it is not signed"); r.Commit != unsigned {
		t.Error(r.Commit)
	}
	sign := func(key string) string {
		f.git("-c", "gpg.format=ssh", "-c", "user.signingKey="+filepath.Join(keys, key), "commit", "--quiet", "--allow-empty", "-S", "-m", "signed")
		return f.head()
	}
	signed := sign("kim")
	if s := offered(t, g, ""); s.Commit != signed {
		t.Error(s.Commit)
	}
	sign("eve")
	refused(t, g, signed, Unsigned, "does not list")

	// The signature of one commit does not cover another.
	f.git("reset", "--quiet", "--hard", signed)
	content := f.git("cat-file", "commit", signed)
	if who, err := signers.Verify([]byte(content)); err != nil || who != "kim@acme.example" {
		t.Errorf("%q, %v", who, err)
	}
	for _, change := range [][2]string{{"Kim <kim", "Kim <eve"}, {"\n\nsigned", "\n\nsigned too"}, {"tree ", "tree  "}} {
		if _, err := signers.Verify([]byte(strings.Replace(content, change[0], change[1], 1))); err == nil || !strings.Contains(err.Error(), "does not fit") {
			t.Errorf("%v passes: %v", change, err)
		}
	}
}

// TestGitHostileTrees: what a repository can hold to reach beyond itself.
func TestGitHostileTrees(t *testing.T) {
	link := func(f *forge) { // a link out of the tree, under the name of a policy file
		if err := os.Symlink("/etc/passwd", filepath.Join(f.work, "egress", "b.rego")); err != nil {
			f.t.Fatal(err)
		}
		f.commit("egress/a.rego", ruleText)
	}
	for name, c := range map[string]struct {
		make func(*forge)
		kind Kind
		says string
	}{
		"symbolic link": {link, InvalidTree, "egress/b.rego is a symbolic link"},
		"submodule": {func(f *forge) {
			f.git("update-index", "--add", "--cacheinfo", "160000,"+f.head()+",egress/sub.rego")
			f.git("commit", "--quiet", "-m", "submodule")
		}, InvalidTree, "egress/sub.rego is a submodule"},
		"too large": {func(f *forge) {
			for _, name := range []string{"a", "b"} {
				f.commit("data/"+name+".json", strings.Repeat("x", MaxBytes/2+1))
			}
		}, TooLarge, "128 MiB"},
		"nothing": {func(f *forge) { f.commit("egress/a.rego", "", "README.md", "x") }, InvalidTree, "there is no policy in it"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForge(t)
			f.commit("egress/a.rego", ruleText)
			g := f.source(nil)
			good := offered(t, g, "")
			c.make(f)
			refused(t, g, good.Commit, c.kind, c.says)
		})
	}
}

// TestGitServerMisbehaves: away, refusing, redirecting, silent, endless.
func TestGitServerMisbehaves(t *testing.T) {
	f := newForge(t)
	f.commit("egress/a.rego", ruleText)
	g := f.source(nil)
	good := offered(t, g, "")
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect was followed, with Authorization %q", r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	answer := func(h http.HandlerFunc) { f.before.Store(&h) }

	answer(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "later", http.StatusServiceUnavailable) })
	refused(t, g, good.Commit, Unreachable, "503")
	answer(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, elsewhere.URL, http.StatusFound) })
	refused(t, g, good.Commit, Unreachable, "fetch")
	answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-git-upload-pack-advertisement")
		_, _ = w.Write([]byte("001e# service=git-upload-pack\n0000\x1b[31mnot a line\r\n"))
	})
	if r := refused(t, g, good.Commit, Unreachable, "fetch"); strings.ContainsAny(r.Error(), "\x1b\r\n") {
		t.Errorf("the server wrote into the log: %q", r.Error())
	}
	// One that never answers is given up with its process, and what it started.
	silent := make(chan struct{})
	answer(func(http.ResponseWriter, *http.Request) { <-silent })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := g.Offer(ctx, good.Revision()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	close(silent)
	f.before.Store(nil)
	if s := offered(t, g, good.Commit); s.Digest != good.Digest {
		t.Error("it does not come back")
	}
	refused(t, f.source(func(c *GitConfig) { c.Token = func() (string, error) { return "wrong-" + "token", nil } }), "", Unreachable, "fetch")
	refused(t, f.source(func(c *GitConfig) { c.CAFile = "" }), "", Unreachable, "certificate")
	refused(t, f.source(func(c *GitConfig) { c.URL = "https://127.0.0.1:1/x.git" }), "", Unreachable, "fetch")
}

// TestGitHuge: the fetch of a repository that is over the limit is aborted, and what
// it fetched is removed.
func TestGitHuge(t *testing.T) {
	f := newForge(t)
	f.commit("egress/a.rego", ruleText)
	g := f.source(nil)
	good := offered(t, g, "")
	noise := make([]byte, 24<<20)
	state := uint64(1)
	for i := range noise {
		state = state*6364136223846793005 + 1442695040888963407
		noise[i] = byte(state >> 56)
	}
	if err := os.WriteFile(filepath.Join(f.work, "large.bin"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	f.commit("egress/a.rego", ruleText+"# large\n")
	g.limit = 4 << 20
	_, err := g.Offer(t.Context(), good.Revision())
	if r, ok := errors.AsType[*Refusal](err); !ok || r.Kind != TooLarge && r.Kind != Unreachable {
		t.Fatalf("%v", err)
	}
	if n := diskUse(g.config.Directory); n > g.limit {
		t.Errorf("%d bytes stay", n)
	}
	g.limit = maxRepository
	if s := offered(t, g, good.Commit); s.Digest == good.Digest {
		t.Error("with room it does not come")
	}
}

// TestGitIgnoresItsEnvironment: neither this process' environment nor the machine's
// configuration of git has an effect.
func TestGitIgnoresItsEnvironment(t *testing.T) {
	f := newForge(t)
	want := f.commit("egress/a.rego", ruleText)
	marker := filepath.Join(t.TempDir(), "ran")
	configuration := filepath.Join(t.TempDir(), "gitconfig")
	if err := os.WriteFile(configuration, []byte("[core]\n\tsshCommand = touch "+marker+"\n\tfsmonitor = touch "+marker+"\n[credential]\n\thelper = \"!touch "+marker+"\"\n[url \"file:///nowhere/\"]\n\tinsteadOf = https://\n[http]\n\tproxy = http://127.0.0.1:1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, value := range map[string]string{
		"GIT_CONFIG_GLOBAL": configuration, "GIT_CONFIG_SYSTEM": configuration, "GIT_DIR": t.TempDir(), "GIT_OBJECT_DIRECTORY": t.TempDir(),
		"GIT_ASKPASS": "touch " + marker, "GIT_SSH_COMMAND": "touch " + marker, "GIT_EXEC_PATH": t.TempDir(), "HTTPS_PROXY": "http://127.0.0.1:1",
		"GIT_TRACE": marker, "GIT_SSL_NO_VERIFY": "1", "GIT_CONFIG_PARAMETERS": "'core.hookspath=" + t.TempDir() + "'",
	} {
		// The forge's own git must not see them.
		t.Setenv(name, value)
	}
	g, err := NewGit(GitConfig{URL: f.url, Branch: "main", CAFile: f.ca, Token: func() (string, error) { return gitToken, nil }, Directory: filepath.Join(t.TempDir(), "git")})
	if err != nil {
		t.Fatal(err)
	}
	if s := offered(t, g, ""); s.Commit != want {
		t.Error(s.Commit)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("a program of the environment ran")
	}
}

// TestGitProtocols: what can lead to a file or a command of this machine, or in
// the clear over a network, is not a source. git may use the URL's own protocol
// alone, so a redirect or a configuration does not lead there either.
func TestGitProtocols(t *testing.T) {
	for _, u := range []string{
		"file:///etc", "/etc", "ext::sh -c 'touch /tmp/x'", "git://127.0.0.1/x", "http://forge.example/x.git", "--upload-pack=x",
		"ssh://-oProxyCommand=x/y", "https://user:password@forge.example/x.git", "",
	} {
		if g, err := NewGit(GitConfig{URL: u, Branch: "main"}); err == nil {
			t.Errorf("%s is taken", g)
		}
	}
	for _, u := range []string{"https://forge.example/x.git", "ssh://git@forge.example/x.git", "http://127.0.0.1:1/x.git", "http://[::1]/x.git"} {
		if _, err := NewGit(GitConfig{URL: u, Branch: "main"}); err != nil {
			t.Errorf("%s: %v", u, err)
		}
	}
}

// TestGitOverSSHCommand checks the arguments of ssh, word by word as a shell reads them.
func TestGitOverSSHCommand(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "it's a place")
	g, err := NewGit(GitConfig{URL: "ssh://git@127.0.0.1:1/x.git", Branch: "main", SSHKeyFile: filepath.Join(directory, "key"), KnownHostsFile: filepath.Join(directory, "hosts")})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "key"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", g.sshCommand()+" -G forge.example").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"batchmode yes", "stricthostkeychecking true", "identitiesonly yes", "forwardagent no", "permitlocalcommand no",
		"identityfile " + filepath.Join(directory, "key"), "userknownhostsfile " + filepath.Join(directory, "hosts"), "globalknownhostsfile /dev/null"} {
		if !strings.Contains(string(out), want+"\n") {
			t.Errorf("ssh is not told %q:\n%s", want, out)
		}
	}
}
