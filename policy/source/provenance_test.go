package source

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestProvenance(t *testing.T) {
	f := newForge(t)
	key := filepath.Join(t.TempDir(), "kim")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kim@acme.example", "-f", key).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	f.commit("egress/a.rego", ruleText)
	f.git("-c", "gpg.format=ssh", "-c", "user.signingKey="+key, "commit", "--quiet", "--allow-empty", "-S",
		"--author", "Ada <ada@acme.example>", "--date", "2026-11-20T10:00:00+02:00", "-m", "Let payments settle (pull request #12)\n\nBecause of PAY-7.")
	head := f.head()
	g := f.source(nil)
	offered(t, g, "")

	want := Provenance{Author: "Ada <ada@acme.example>", Authored: time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC),
		Committer: "Kim <kim@acme.example>", Subject: "Let payments settle (pull request #12)", Signature: SignatureNotRequired}
	if got, err := g.Provenance(t.Context(), head); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}

	// The signer is reported where signatures are required, and not where any user
	// could have added a signature of their own.
	signers, err := ReadSigners(key + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	g.config.Signers = signers
	want.Signer, want.Signature = "kim@acme.example", SignatureVerified
	if got, err := g.Provenance(t.Context(), head); err != nil || got != want {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := g.Provenance(t.Context(), f.commitBefore(head)); err != nil || got.Signature != SignatureInvalid || got.Signer != "" || got.Author == "" {
		t.Errorf("an unsigned commit: %+v, %v", got, err)
	}
	for _, name := range []string{"", "HEAD", "--help", strings.Repeat("0", 40)} {
		if got, err := g.Provenance(t.Context(), name); err == nil {
			t.Errorf("%q has the provenance %+v", name, got)
		}
	}
}

func (f *forge) commitBefore(commit string) string {
	return strings.TrimSpace(f.git("rev-parse", commit+"^"))
}

// FuzzProvenance: whatever a commit holds, its provenance is short, valid text, on
// one line.
func FuzzProvenance(f *testing.F) {
	f.Add([]byte("tree x\nauthor Ada <ada@acme.example> 1763712000 +0100\ncommitter Kim <kim@acme.example> 1763712000 +0000\n\nsubject\n\nbody\n"))
	f.Add([]byte("author A <a> 999999999999999999 +0000\nauthor B <b> 1 +0000\n\n\n\n \xff"))
	f.Fuzz(func(t *testing.T, commit []byte) {
		p := parseProvenance(commit)
		for _, text := range []string{p.Author, p.Committer, p.Subject} {
			if len(text) > maxProvenanceText || !utf8.ValidString(text) || strings.Contains(text, "\n") {
				t.Errorf("%q", text)
			}
		}
		if p.Signer != "" || !p.Authored.IsZero() && (p.Authored.Year() < 1970 || p.Authored.Year() > 9999) {
			t.Errorf("%+v", p)
		}
	})
}
