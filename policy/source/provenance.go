package source

import (
	"bytes"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Provenance is the origin that a commit states. A user who pushes a commit can write
// anything into it: only Signer is more than that user's claim.
type Provenance struct {
	Author    string    // who wrote the change: "Kim <kim@acme.example>"
	Authored  time.Time // when, by the author's clock; zero where the commit has no time
	Committer string    // who made the commit, such as Bitbucket for a merge by its button
	Subject   string    // the first line of the message
	Signature Signature // whether a listed key has signed it
	Signer    string    // whose key that is, by policy.git.allowed_signers_file; empty unless Signature is [SignatureVerified]
}

// Signature is what is known of a commit's signature: a closed vocabulary.
type Signature string

// The signatures.
const (
	SignatureNotRequired Signature = "not_required" // no signers are configured: it was not looked for
	SignatureVerified    Signature = "verified"     // a listed key has signed the commit
	SignatureInvalid     Signature = "invalid"      // there is none, it does not fit, or no listed key made it
)

// maxProvenanceText bounds each text of a provenance, in bytes.
const maxProvenanceText = 300

// Provenance returns where a commit comes from. It reads the local copy of the
// repository, so that the commit that was offered last is known while the server is
// unavailable. A signature that does not verify is not an error: Signature reports it.
// An error means that the local copy does not have the commit. Safe for concurrent
// use; it waits for a fetch in progress.
func (g *Git) Provenance(ctx context.Context, commit string) (Provenance, error) {
	if !objectName.MatchString(commit) {
		return Provenance{}, fmt.Errorf("%.80q is not the name of a commit", commit)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	content, err := g.git(bounded, maxCommitBytes, "cat-file", "commit", commit)
	if err != nil {
		return Provenance{}, fmt.Errorf("commit %s: %w", commit, err)
	}
	p := parseProvenance(content)
	p.Signature = SignatureNotRequired
	if g.config.Signers != nil {
		p.Signature = SignatureVerified
		if p.Signer, err = g.config.Signers.Verify(content); err != nil {
			p.Signature, p.Signer = SignatureInvalid, ""
		}
	}
	return p, nil
}

// identLine is a line of a commit that names a person: the name, the address,
// seconds since 1970 and an offset (git-commit-tree(1), "commit information").
var identLine = regexp.MustCompile(`^(author|committer) (.*) (-?[0-9]{1,18}) [+-][0-9]{4}$`)

// parseProvenance reads a commit as git keeps it. What is not as git writes it is
// left out: it decides nothing.
func parseProvenance(commit []byte) (p Provenance) {
	head, body, _ := bytes.Cut(commit, []byte("\n\n"))
	for line := range strings.Lines(string(head)) {
		m := identLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		switch {
		case m == nil:
		case m[1] == "author" && p.Author == "":
			p.Author = short(m[2])
			if seconds, err := strconv.ParseInt(m[3], 10, 64); err == nil {
				if at := time.Unix(seconds, 0).UTC(); at.Year() >= 1970 && at.Year() <= 9999 {
					p.Authored = at
				}
			}
		case m[1] == "committer" && p.Committer == "":
			p.Committer = short(m[2])
		}
	}
	subject, _, _ := strings.Cut(strings.TrimLeft(string(body), "\n"), "\n")
	p.Subject = short(strings.TrimSpace(subject))
	return p
}

// short cuts a text at a whole character.
func short(text string) string {
	text = strings.ToValidUTF8(text, "�")
	if len(text) <= maxProvenanceText {
		return text
	}
	cut := maxProvenanceText - len("…")
	for cut > 0 && text[cut]&0xC0 == 0x80 {
		cut--
	}
	return text[:cut] + "…"
}

// Brought lists the commits that activating a commit brings where another one decided:
// the commit itself and what is between the two, on the first-parent line, the newest
// first and at most limit. more reports that there are others. Without a commit before,
// or where that is not in its history, it is the commit alone. Safe for concurrent use;
// it waits for a fetch in progress.
func (g *Git) Brought(ctx context.Context, before, commit string, limit int) (commits []string, more bool, err error) {
	if !objectName.MatchString(commit) {
		return nil, false, fmt.Errorf("%.80q is not the name of a commit", commit)
	}
	if !objectName.MatchString(before) || before == commit {
		return []string{commit}, false, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	bounded, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	if _, err := g.git(bounded, 1<<10, "merge-base", "--is-ancestor", before, commit); err != nil {
		return []string{commit}, false, bounded.Err()
	}
	out, err := g.git(bounded, 1<<20, "rev-list", "--first-parent", "--max-count="+strconv.Itoa(limit+1), commit, "^"+before)
	if err != nil {
		return nil, false, fmt.Errorf("commits up to %s: %w", commit, err)
	}
	commits = strings.Fields(string(out))
	for _, c := range commits {
		if !objectName.MatchString(c) {
			return nil, false, fmt.Errorf("git named the commit %.80q", c)
		}
	}
	if len(commits) == 0 {
		return []string{commit}, false, nil
	}
	return commits[:min(len(commits), limit)], len(commits) > limit, nil
}
