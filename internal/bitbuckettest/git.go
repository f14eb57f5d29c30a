package bitbuckettest

import (
	"fmt"
	"io"
	"log"
	"maps"
	"net/http"
	"net/http/cgi"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// ServeGit makes a bare Git repository in the directory, which must not exist, serves it to
// everybody, and returns the URL to clone from and push to. Each push is followed by the
// deliveries of the repository's hooks.
func (r *Repository) ServeGit(directory string) (cloneURL string, err error) {
	directory, err = filepath.Abs(directory)
	if err != nil {
		return "", err
	}
	g := &gitRepository{directory: directory}
	if err := os.MkdirAll(filepath.Dir(directory), 0o755); err != nil {
		return "", err
	}
	if _, err := runGit("", "init", "--quiet", "--bare", "--initial-branch=main", directory); err != nil {
		return "", err
	}
	if _, err := runGit(directory, "config", "http.receivepack", "true"); err != nil {
		return "", err
	}
	path, err := runGit("", "--exec-path")
	if err != nil {
		return "", err
	}
	g.backend = &cgi.Handler{
		Path: filepath.Join(path, "git-http-backend"), InheritEnv: []string{"PATH"}, Logger: log.New(io.Discard, "", 0), Stderr: io.Discard,
		Env: append(slices.Clone(gitEnvironment), "GIT_PROJECT_ROOT="+directory, "GIT_HTTP_EXPORT_ALL=1", "HOME="+directory),
	}
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.git = g
	return r.server.BaseURL() + "/" + r.fullName() + ".git", nil
}

var gitEnvironment = []string{
	"GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_COUNT=1", "GIT_CONFIG_KEY_0=safe.directory", "GIT_CONFIG_VALUE_0=*",
}

func runGit(directory string, arguments ...string) (string, error) {
	cmd := exec.Command("git", arguments...)
	cmd.Dir, cmd.Env = directory, append(os.Environ(), gitEnvironment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", strings.Join(arguments, " "), err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// serveGit answers a request to a Git repository; false: it is none.
func (s *Server) serveGit(w http.ResponseWriter, r *http.Request) bool {
	name, rest, found := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), ".git/")
	if !found {
		return false
	}
	done := s.arrive(&call{endpoint: Git}, r)
	defer done()
	repository := s.repositoryNamed(name)
	if repository == nil {
		http.NotFound(w, r)
		return true
	}
	g := repository.git
	prefix := "/" + name + ".git"
	handler := *g.backend
	handler.Root = prefix
	if r.Method != http.MethodPost || rest != "git-receive-pack" {
		handler.ServeHTTP(w, r)
		return true
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.refs()
	handler.ServeHTTP(w, r)
	if changes := g.changes(before, g.refs()); len(changes) > 0 {
		repository.Push(changes...)
	}
	return true
}

// repositoryNamed returns the repository with this full name that has a Git server.
func (s *Server) repositoryNamed(name string) *Repository {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, w := range s.workspaces {
		for _, r := range w.repositories {
			if r.git != nil && r.fullName() == name {
				return r
			}
		}
	}
	return nil
}

// refs returns the commit of each branch and tag.
func (g *gitRepository) refs() map[string]string {
	out, err := runGit(g.directory, "for-each-ref", "--format=%(refname) %(objectname) %(*objectname)", "refs/heads", "refs/tags")
	if err != nil {
		panic("bitbuckettest: " + err.Error())
	}
	refs := map[string]string{}
	for line := range strings.Lines(out) {
		fields := strings.Fields(line)
		refs[fields[0]] = fields[len(fields)-1] // of an annotated tag, the commit
	}
	return refs
}

// changes compares the refs before and after a push.
func (g *gitRepository) changes(before, after map[string]string) []RefChange {
	names := maps.Clone(before)
	maps.Copy(names, after)
	var changes []RefChange
	for _, name := range slices.Sorted(maps.Keys(names)) {
		c := RefChange{Ref: name, Old: before[name], New: after[name]}
		if c.Old == c.New {
			continue
		}
		if c.New != "" {
			c.Commits = g.commits(c.Old, c.New)
		}
		if c.Old != "" && c.New != "" {
			_, err := runGit(g.directory, "merge-base", "--is-ancestor", c.Old, c.New)
			c.Forced = err != nil
		}
		changes = append(changes, c)
	}
	return changes
}

// commits returns at most five of the commits that a push added to a ref.
func (g *gitRepository) commits(before, after string) (commits []Commit) {
	arguments := []string{"log", "-5", "--format=%H%x00%an <%ae>%x00%ct%x00%s", after}
	if before != "" {
		arguments = append(arguments, "^"+before)
	}
	out, err := runGit(g.directory, arguments...)
	if err != nil {
		return nil
	}
	for line := range strings.Lines(out) {
		fields := strings.Split(strings.TrimSuffix(line, "\n"), "\x00")
		var seconds int64
		if len(fields) == 4 {
			_, _ = fmt.Sscan(fields[2], &seconds)
			commits = append(commits, Commit{Hash: fields[0], Author: fields[1], Date: time.Unix(seconds, 0), Message: fields[3] + "\n"})
		}
	}
	return commits
}
