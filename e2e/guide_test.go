package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestGuide runs docs/policy.md as its reader does: every command in its
// order, with the real program, a real server to which steps really come, a real
// database and a real Git server. What is printed is what the page shows. And a page
// with a wrong line in it does not pass.
func TestGuide(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(guidePage)
	if err != nil {
		t.Fatal(err)
	}
	steps, err := guideSteps(string(raw))
	if err != nil {
		t.Fatalf("%s: %v", guidePage, err)
	}
	g := newGuide(t)
	for _, s := range steps {
		if err := g.execute(s); err != nil {
			t.Fatalf("%s:%d: %v", guidePage, s.line, err)
		}
	}
	if have := slices.Sorted(slices.Values(g.caused)); !slices.Equal(have, []string{"enforced", "excepted", "observe", "start", "the end"}) {
		t.Errorf("on the page happens %q", have)
	}
	t.Run("a wrong line", func(t *testing.T) { wrongLines(t, g) })
	t.Run("a wrong command or file", func(t *testing.T) { wrongSteps(t, string(raw)) })
}

// wrongLines changes and leaves out each line of the output that the page shows,
// and compares with what was printed.
func wrongLines(t *testing.T, g *guide) {
	lines := 0
	for _, a := range g.results {
		list := strings.Split(strings.TrimSpace(a.step.want), "\n")
		for i, line := range list {
			if strings.TrimSpace(line) == "" {
				continue
			}
			lines++
			for _, wrong := range [][]string{{}, {line, line}, {line + " or so"}, {strings.Replace(line, strings.Fields(line)[0], "nobody", 1)}} {
				changed := *a.step
				changed.want = strings.Join(slices.Concat(list[:i], wrong, list[i+1:]), "\n")
				if g.compare(&changed, a) == nil {
					t.Errorf("%s:%d: %q in the place of %q passes", guidePage, a.step.line, wrong, line)
				}
			}
		}
		changed := *a.step
		if changed.status++; g.compare(&changed, a) == nil {
			t.Errorf("%s:%d: another status passes", guidePage, a.step.line)
		}
	}
	if lines < 60 {
		t.Errorf("the page was read as %d lines of what commands print", lines)
	}
}

// wrongSteps runs the beginning of pages on which a command is wrong, or a file.
func wrongSteps(t *testing.T, page string) {
	page, _, _ = strings.Cut(page, "<!-- guide: start -->")
	for from, to := range map[string]string{
		"sallyport policy init .\n":           "sallyport policy begin .\n",
		"cd egress-policy\n":                  "cd elsewhere\n",
		"sallyport policy check . --strict\n": "sallyport policy check . --stern\n",
		"sallyport policy test .\n":           "sallyport policy test . -v\n",
		"# sallyport.yaml\n":                  "# egress/mine.rego\nnot rego\n```\n\n```sh\nsallyport policy check .\n```\n\n```yaml\n# sallyport.yaml\n",
	} {
		changed := strings.Replace(page, from, to, 1)
		if changed == page {
			t.Errorf("%q does not stand on the page", from)
		}
		steps, err := guideSteps(changed)
		g := readerOf(t, released(t), t.TempDir())
		for i := 0; err == nil && i < len(steps); i++ {
			if steps[i].file != "sallyport.yaml" {
				err = g.execute(steps[i])
			}
		}
		if err == nil {
			t.Errorf("a page with %q instead of %q passes", to, from)
		}
	}
}

// guideResult is what a command printed, and when the exception ended by then.
type guideResult struct {
	step   *guideStep
	output string
	status int
	ends   string
}

// guide is one way through the page.
type guide struct {
	t         testing.TB
	w         *fixture // nil: there is no server
	sh        *shell
	directory string // the policy repository
	gitURL    string // as the server asks for it
	today     time.Time
	ends      string // when the exception really ends
	refusal   string // a decision's id
	results   []guideResult
	caused    []string
}

// newGuide makes the environment of a reader of the page: an empty directory, a Git
// server with an empty repository, and a Sallyport that does not run yet. Allowed
// requests leave through another proxy, which knows the port 443 of the emulated
// internet.
func newGuide(t testing.TB) *guide {
	t.Helper()
	var upstream atomic.Pointer[string] // read by each connection, at any time
	exit := newTap(t, "127.0.0.1:0", func(c net.Conn) {
		if to := upstream.Load(); to != nil {
			tunnelTo(c, *to)
		}
	})
	w := newFixture(t, options{egress: fmt.Sprintf("  upstream_proxies:\n    - {proxy: %q, hosts: [\"*.example\"], dns: upstream}\n", "http://"+net.JoinHostPort(exit.host, exit.port))})
	upstream.Store(new(fmt.Sprintf("127.0.0.1:%d", w.HTTPSPort)))
	remotes := t.TempDir()
	g := readerOf(t, released(t), remotes)
	g.w, g.gitURL = w, gitServer(t, remotes)+"/egress-policy.git"
	return g
}

// readerOf is a user in an empty directory, for whom Bitbucket's repository is a
// bare one in remotes.
func readerOf(t testing.TB, program, remotes string) *guide {
	t.Helper()
	remote := filepath.Join(remotes, "egress-policy.git")
	if out, err := exec.CommandContext(t.Context(), "git", "init", "--quiet", "--bare", "--initial-branch=main", remote).CombinedOutput(); err != nil {
		t.Fatalf("git init: %v\n%s", err, out)
	}
	empty := t.TempDir()
	env := append(os.Environ(), "PATH="+filepath.Dir(program)+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull,
		"GIT_AUTHOR_NAME=Kim", "GIT_AUTHOR_EMAIL=kim@acme.example", "GIT_COMMITTER_NAME=Kim", "GIT_COMMITTER_EMAIL=kim@acme.example",
		"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=url."+remote+".insteadOf", "GIT_CONFIG_VALUE_0=https://bitbucket.org/acme/egress-policy.git")
	return &guide{t: t, sh: newShell(t, empty, env), directory: filepath.Join(empty, "egress-policy"), today: time.Now().UTC().Truncate(24 * time.Hour)}
}

// tunnelTo answers every CONNECT with a tunnel to one address.
func tunnelTo(c net.Conn, address string) {
	in := bufio.NewReader(c)
	if r, err := http.ReadRequest(in); err != nil || r.Method != http.MethodConnect {
		return
	}
	to, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer to.Close()
	_, _ = io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
	var both sync.WaitGroup
	both.Go(func() { _, _ = io.Copy(to, in); _ = to.(*net.TCPConn).CloseWrite() })
	both.Go(func() { _, _ = io.Copy(c, to); _ = c.(interface{ CloseWrite() error }).CloseWrite() })
	both.Wait()
}

// gitServer serves the repositories of a directory over git's smart protocol.
func gitServer(t testing.TB, root string) string {
	t.Helper()
	path, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&cgi.Handler{
		Path: filepath.Join(strings.TrimSpace(string(path)), "git-http-backend"), Root: "/",
		Env: []string{"GIT_PROJECT_ROOT=" + root, "GIT_HTTP_EXPORT_ALL=1", "GIT_CONFIG_NOSYSTEM=1", "HOME=" + root,
			"GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*"},
		InheritEnv: []string{"PATH"}, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
	})
	t.Cleanup(server.Close)
	return server.URL
}

// execute executes one step.
func (g *guide) execute(s *guideStep) error {
	switch {
	case s.event != "":
		g.caused = append(g.caused, s.event)
		return g.cause(s.event)
	case s.file == "sallyport.yaml":
		return g.configure(s.content)
	case s.file != "":
		path := filepath.Join(g.directory, s.file)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		return os.WriteFile(path, []byte(movedTo(g.today, s.content)), 0o644)
	}
	command := strings.ReplaceAll(movedTo(g.today, s.command), guideRefusal, g.refusal)
	if g.w != nil {
		command = strings.ReplaceAll(command, "/etc/sallyport/sallyport.yaml", g.w.config)
	}
	output, status, err := g.sh.run(command)
	if err != nil {
		return fmt.Errorf("%s%w\n%s", command, err, output)
	}
	a := guideResult{s, output, status, g.ends}
	g.results = append(g.results, a)
	return g.compare(s, a)
}

// guideEnd is the end of the exception on the page.
const guideEnd = "2026-12-19T00:00:00Z"

// compare compares the output with the page.
func (g *guide) compare(s *guideStep, a guideResult) error {
	want := movedTo(g.today, s.want)
	if a.ends != "" { // the day of the exception's end has come on the page, and here it is today
		end := movedTo(g.today, guideEnd)
		want = strings.ReplaceAll(strings.ReplaceAll(want, end, a.ends), strings.TrimSuffix(end, "00:00:00Z"), g.today.Format("2006-01-02T"))
	}
	want, got := unrepeated(g.today, want), unrepeated(g.today, a.output)
	switch {
	case a.status != s.status:
		return fmt.Errorf("it ended with %d, and the page says %d:\n%s", a.status, s.status, a.output)
	case got != want:
		return fmt.Errorf("it printed\n%s\n-- and the page says --\n%s\n-- the whole --\n%s", got, want, a.output)
	}
	return nil
}

// configure puts a section of the configuration in the place of the fixture's own.
func (g *guide) configure(section string) error {
	text, err := os.ReadFile(g.w.config)
	if err != nil {
		return err
	}
	token := filepath.Join(g.w.Directory, "policy-token")
	if err := os.WriteFile(token, []byte("a-token-for-one-repository\n"), 0o600); err != nil {
		return err
	}
	g.w.addSecret("a-token-for-one-repository")
	old := fmt.Sprintf("policy:\n  directory: %q\n", g.w.policy)
	section = strings.NewReplacer("https://bitbucket.org/acme/egress-policy.git", g.gitURL, "secrets/policy-token", token).Replace(section)
	changed := strings.Replace(string(text), old, section, 1)
	if changed == string(text) {
		return errors.New("the configuration has no section policy")
	}
	return os.WriteFile(g.w.config, []byte(changed), 0o600)
}

// cause makes an event of the page happen.
func (g *guide) cause(event string) error {
	w := g.w
	switch event {
	case "start":
		w.start()
	case "observe":
		for range 3 {
			g.build(w.caller(w.Website, nil, "main"), "registry.packages.example", "fonts.design.example")
		}
		for range 2 {
			g.build(w.caller(w.Website, nil, "main"), "api.crashes.example")
			g.build(w.production(), "api.partner.example")
		}
		g.refused(w.caller(w.Website, nil, "feature/share"), "pastebin.example")
		g.build(w.caller(w.Payments, nil, "feature/settle"), "api.partner.example")
	case "enforced":
		g.build(w.caller(w.Website, nil, "main"), "fonts.design.example")
		g.refusal = g.refused(w.caller(w.Website, nil, "main"), "api.crashes.example")
	case "excepted":
		g.build(w.caller(w.Website, nil, "main"), "api.crashes.example")
	case "the end":
		return g.end()
	default:
		return fmt.Errorf("nothing is known of %q", event)
	}
	return nil
}

// build is a step whose request is allowed.
func (g *guide) build(c caller, hosts ...string) {
	g.t.Helper()
	for _, host := range hosts {
		client := g.w.client(g.t, c)
		response, err := client.Get("https://" + host + "/")
		if err != nil {
			g.t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		_ = response.Body.Close()
		client.CloseIdleConnections()
		if response.StatusCode != http.StatusOK {
			g.t.Fatalf("%s answered %s", host, response.Status)
		}
	}
	g.w.closed(g.t, c, len(hosts))
}

// refused is a step that is refused, and returns the id of its decision.
func (g *guide) refused(c caller, host string) string {
	g.t.Helper()
	a := g.w.connect(g.t, c, host+":443")
	if a.StatusCode != http.StatusForbidden {
		g.t.Fatalf("%s: %s", host, a.line)
	}
	return a.Header.Get("Sallyport-Decision")
}

// end lets the exception's end come: it is moved to a moment from now, which is
// waited for with a tunnel open. It is the clock alone that closes.
func (g *guide) end() error {
	path := filepath.Join(g.directory, "data", "exceptions", "list.yaml")
	list, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	until := time.Now().Add(12 * time.Second).UTC().Truncate(time.Second)
	g.ends = until.Format(time.RFC3339)
	changed := strings.Replace(string(list), movedTo(g.today, guideEnd), g.ends, 1)
	if changed == string(list) {
		return errors.New("there is no exception")
	}
	if err := os.WriteFile(path, []byte(changed), 0o644); err != nil {
		return err
	}
	if output, status, err := g.sh.run("git commit --quiet --all -m nearer\ngit push --quiet\nsallyport policy reload\n"); err != nil || status != 0 {
		return fmt.Errorf("%w: %s", err, output)
	}
	c := g.w.caller(g.w.Website, nil, "main")
	response, err := g.w.client(g.t, c).Get("https://api.crashes.example/")
	if err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close() // and the tunnel stays open
	row := g.w.decision(g.t, c)
	closed, _ := row["closed_at"].(string)
	if ended, err := time.Parse(time.RFC3339, closed); err != nil || ended.Before(until) || row["close_reason"] != "lifetime" {
		g.t.Errorf("the tunnel ended at %v because of %v, and the exception at %s: %v", row["closed_at"], row["close_reason"], g.ends, err)
	}
	g.refused(g.w.caller(g.w.Website, nil, "main"), "api.crashes.example")
	return nil
}
