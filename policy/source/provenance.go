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

// Provenance is what a commit says of where it comes from. Who pushes a commit
// writes into it what they like: only Signer is more than their word.
type Provenance struct {
	Author    string    // who wrote the change: "Kim <kim@acme.example>"
	Authored  time.Time // when, by the author's clock; zero where the commit does not say
	Committer string    // who made the commit, such as Bitbucket for a merge by its button
	Subject   string    // the first line of the message
	Signer    string    // whose key has signed it, by policy.git.signers_file; empty where signatures are not asked for
}

// maxProvenanceText bounds each text of a provenance, in bytes.
const maxProvenanceText = 300

// Provenance says where a commit comes from. It is read from the repository that
// is kept, so that of the commit that was offered last it is known also while the
// server is away. The error says that the commit is not there, that it is none, or
// that the signature that is asked for is not there.
func (g *Git) Provenance(ctx context.Context, commit string) (Provenance, error) {
	if !objectName.MatchString(commit) {
		return Provenance{}, fmt.Errorf("%.80q names no commit", commit)
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
	if g.config.Signers != nil {
		if p.Signer, err = g.config.Signers.Verify(content); err != nil {
			return Provenance{}, fmt.Errorf("commit %s: %w", commit, err)
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
