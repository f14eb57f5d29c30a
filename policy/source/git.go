package source

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/sallyport/sallyport/policy"
)

// Bounds on what a Git server may make this machine do.
const (
	gitTimeout     = 2 * time.Minute // for everything that one look does
	maxRepository  = 512 << 20       // bytes on disk, history included
	maxCommitBytes = 1 << 20
)

// GitConfig is the configuration of a policy repository.
type GitConfig struct {
	URL    string // https:// or ssh://, without a secret; http:// on a loopback address
	Branch string // one of Branch and Tag
	Tag    string
	Path   string // the policy's folder, "." for the root

	// Token returns the password for https, as it is now; nil where none is needed.
	Token func() (string, error)
	// User goes with the token; empty is what Bitbucket's access tokens want.
	User   string
	CAFile string // more authorities for https, PEM; empty: the system's

	SSHKeyFile     string // the private key for ssh
	KnownHostsFile string // the server's keys for ssh; nothing else is trusted

	// Signers are the keys of which one has to have signed the commit; nil: a
	// commit need not be signed.
	Signers *Signers
	// AllowRewind takes a commit that does not follow on the one that decides.
	AllowRewind bool

	// Directory is where the repository is kept, without a work tree. It belongs to
	// this source alone and may be lost at any time.
	Directory string
}

// Git is a policy repository that is polled. It runs the git
// program: see docs/adr/0014. Safe for concurrent use, one check a time.
type Git struct {
	config GitConfig
	limit  int64
	bounds treeBounds

	harmless []string // faults of objects: see there

	mu      sync.Mutex
	last    *policy.Snapshot      // of the commit that was offered last
	folders map[string]folderRead // of its repositories
	rewound bool
	changes int
}

// NewGit returns a source. It fails where the git program is not installed, and
// for a URL of any other kind than those.
func NewGit(c GitConfig) (*Git, error) {
	if err := checkURL(c.URL); err != nil {
		return nil, err
	}
	g := &Git{config: c, limit: maxRepository, bounds: defaultTreeBounds, harmless: harmless}
	if _, err := gitProgram(); err != nil {
		return nil, err
	}
	return g, nil
}

// String names the source.
func (g *Git) String() string {
	ref := "branch " + g.config.Branch
	if g.config.Tag != "" {
		ref = "tag " + g.config.Tag
	}
	s := "git " + g.config.URL + " " + ref
	if p := g.config.Path; p != "" && p != "." {
		s += " folder " + p
	}
	return s
}

// Rewound reports whether the latest offer does not descend from the
// commit that was active at that time.
func (g *Git) Rewound() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rewound
}

// Offer fetches and returns the policy at the branch's or tag's commit. after is
// the active revision: a commit that does not have it in its history is refused,
// because a user who can push an old state again could open what was closed since.
// The error is of type *[Refusal] unless ctx ended.
func (g *Git) Offer(ctx context.Context, after policy.Revision) (*policy.Snapshot, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	snapshot, err := g.offer(bounded, after)
	switch {
	case err == nil:
		return snapshot, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	refusal, ok := errors.AsType[*Refusal](err)
	if !ok {
		refusal = &Refusal{Kind: Unreachable, Err: err}
	}
	refusal.Err = fmt.Errorf("%s: %w", g, refusal.Err)
	return nil, refusal
}

func (g *Git) offer(ctx context.Context, after policy.Revision) (*policy.Snapshot, error) {
	if err := g.prepare(ctx); err != nil {
		return nil, err
	}
	if err := g.fetch(ctx); err != nil {
		return nil, err
	}
	commit, err := g.commit(ctx)
	if err != nil {
		return nil, err
	}
	if err := g.checkSignature(ctx, commit); err != nil {
		return nil, err
	}
	if err := g.checkHistory(ctx, after.Commit, commit); err != nil {
		return nil, err
	}
	if g.last != nil && g.last.Commit == commit {
		return g.last, nil
	}
	files, err := g.files(ctx, commit)
	if err != nil {
		return nil, refuse(ctx, commit, fmt.Errorf("commit %s: %w", commit, err))
	}
	snapshot, err := policy.NewSnapshot(files, commit)
	if err != nil {
		return nil, refuse(ctx, commit, fmt.Errorf("commit %s: %w", commit, err))
	}
	g.last = snapshot
	if g.changes++; g.changes%64 == 0 { // each fetch leaves a pack behind
		_, _ = g.git(ctx, 1<<20, "gc", "--quiet", "--prune=now")
	}
	return snapshot, nil
}

// The name of what was fetched, in the repository that is kept. The namespace is
// ours: nothing that a server calls its refs comes to be called so.
const offeredRef = "refs/sallyport/offered"

// prepare makes the repository if there is none. It has no hooks: it is made of
// an empty template, and core.hooksPath points nowhere as well.
func (g *Git) prepare(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(g.config.Directory, "HEAD")); err == nil {
		return nil
	}
	if err := os.MkdirAll(g.config.Directory, 0o700); err != nil {
		return fmt.Errorf("make %s: %w", g.config.Directory, err)
	}
	_, err := g.git(ctx, 1<<20, "init", "--quiet", "--bare", "--template=", "--initial-branch=none", g.config.Directory)
	return err
}

// fetch fetches the ref's whole history: without it, checkHistory cannot determine
// whether a commit follows on another one.
func (g *Git) fetch(ctx context.Context) error {
	ref := "refs/heads/" + g.config.Branch
	if g.config.Tag != "" {
		ref = "refs/tags/" + g.config.Tag
	}
	_, err := g.remote(ctx, "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head",
		"--no-auto-maintenance", "--force", "--", g.config.URL, "+"+ref+":"+offeredRef)
	if err == nil {
		return nil
	}
	g.sweep()
	if errors.Is(err, errOverLimit) {
		// What has come of it so far is of no use, and would be in the way.
		_ = os.RemoveAll(g.config.Directory)
		return &Refusal{Kind: TooLarge, Err: fmt.Errorf("fetch: with its history it is over %d MiB on disk", g.limit>>20)}
	}
	if strings.Contains(err.Error(), "couldn't find remote ref") {
		// A page instead of an answer of Git's is read as a list without branches.
		if refs, err := g.remote(ctx, "ls-remote", "--", g.config.URL); err == nil && len(bytes.TrimSpace(refs)) == 0 {
			return errors.New("fetch: the server lists no branch at all: the answer is a login page or a proxy's, or the repository is empty: open the address in a browser, and correct policy.git.url; Bitbucket's end in .git")
		}
		return fmt.Errorf("fetch: there is no %s: correct policy.git.branch or policy.git.tag", ref)
	}
	return explainFetch(err)
}

// sweep removes what a fetch that was cut off has left behind.
func (g *Git) sweep() {
	for _, pattern := range []string{"objects/pack/tmp_*", "objects/pack/.tmp-*", "objects/tmp_*", "objects/incoming-*", "objects/tmp_objdir-*", "*.lock", "refs/sallyport/*.lock"} {
		left, _ := filepath.Glob(filepath.Join(g.config.Directory, pattern))
		for _, path := range left {
			_ = os.RemoveAll(path)
		}
	}
}

var objectName = regexp.MustCompile(`^(?:[0-9a-f]{40}|[0-9a-f]{64})$`)

// commit is the commit that was fetched: a tag's is the one that it points to.
func (g *Git) commit(ctx context.Context) (string, error) {
	out, err := g.git(ctx, 1<<10, "rev-parse", "--verify", "--quiet", offeredRef+"^{commit}")
	if err != nil {
		return "", refuse(ctx, "", fmt.Errorf("what was fetched is not a commit: %w", err))
	}
	name := strings.TrimSpace(string(out))
	if !objectName.MatchString(name) {
		return "", refuse(ctx, "", fmt.Errorf("git named the commit %.80q", name))
	}
	return name, nil
}

func (g *Git) checkSignature(ctx context.Context, commit string) error {
	if g.config.Signers == nil {
		return nil
	}
	content, err := g.git(ctx, maxCommitBytes, "cat-file", "commit", commit)
	if err != nil {
		return refuse(ctx, commit, err)
	}
	if _, err := g.config.Signers.Verify(content); err != nil {
		return &Refusal{Kind: Unsigned, Commit: commit, Err: fmt.Errorf("commit %s: %w", commit, err)}
	}
	return nil
}

// checkHistory sees whether a commit has another one in its history.
func (g *Git) checkHistory(ctx context.Context, before, commit string) error {
	g.rewound = false
	if !objectName.MatchString(before) || before == commit {
		return nil
	}
	_, err := g.git(ctx, 1<<10, "merge-base", "--is-ancestor", before, commit)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	// Status 1: before is not an ancestor. Status 128: the repository does not have
	// before, which means the same, since the whole history was fetched.
	if g.config.AllowRewind {
		g.rewound = true
		return nil
	}
	return &Refusal{Kind: Rewound, Commit: commit, Err: fmt.Errorf(
		"commit %s does not follow on %s, which decides: history was rewound or replaced. Push a commit on top of it, a revert for one; or set policy.git.non_fast_forward: allow", commit, before)}
}

// checkURL keeps git to servers: its other protocols reach files and commands of
// this machine, or are in the clear.
func checkURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.Opaque != "" || strings.HasPrefix(u.Hostname(), "-") || strings.HasPrefix(u.User.Username(), "-") {
		return errors.New("policy.git.url is not a URL such as https://bitbucket.org/acme/policy.git")
	}
	address, _ := netip.ParseAddr(u.Hostname())
	_, password := u.User.Password()
	switch {
	case password || u.User != nil && u.Scheme != "ssh":
		return errors.New("policy.git.url has a user name or password in it: name a file with the secret")
	case u.Scheme == "https", u.Scheme == "ssh", u.Scheme == "http" && (address.IsLoopback() || u.Hostname() == "localhost"):
		return nil
	}
	return errors.New("policy.git.url is neither https:// nor ssh://")
}

// user goes with the token.
func (c GitConfig) user() string { return cmp.Or(c.User, "x-token-auth") }
