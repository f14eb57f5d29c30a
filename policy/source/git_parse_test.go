package source

import (
	"fmt"
	"strings"
	"testing"
)

const someObject = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

func TestParseBatchIsStrict(t *testing.T) {
	chosen := []treeEntry{{object: someObject, size: 3, path: "egress/a.rego"}}
	if files, err := parseBatch([]byte(someObject+" blob 3\nabc\n"), chosen); err != nil || string(files[0].Content) != "abc" {
		t.Errorf("%v, %v", files, err)
	}
	for _, out := range []string{"", someObject + " missing\n", someObject + " blob 3\nab", someObject + " blob 3\nabc", someObject + " blob 3\nabcd\n", someObject + " tree 3\nabc\n", someObject + " blob 3\nabc\nmore"} {
		if files, err := parseBatch([]byte(out), chosen); err == nil {
			t.Errorf("%q was read as %v", out, files)
		}
	}
}

// FuzzTree: whatever a listing says, what is chosen from it belongs to a policy
// tree, is a file, and is within the bounds.
func FuzzTree(f *testing.F) {
	f.Add("100644 blob "+someObject+"      12\tegress/a.rego\x00120000 blob "+someObject+"       7\tegress/b.rego\x00", "")
	f.Add("100644 blob "+someObject+"      12\tpolicy/egress/a.rego\x00", "policy")
	f.Fuzz(func(t *testing.T, listing, folder string) {
		chosen, err := choose([]byte(listing), folder, faults{})
		if err != nil {
			return
		}
		total := int64(0)
		for _, e := range chosen {
			total += e.size
			if e.kind != "blob" || e.size < 0 || e.mode == "120000" || !(strings.HasSuffix(e.path, ".rego") || strings.HasPrefix(e.path, "data/")) || !objectName.MatchString(e.object) {
				t.Errorf("chosen: %+v", e)
			}
		}
		if total > MaxBytes || len(chosen) > MaxFiles {
			t.Errorf("%d files with %d bytes", len(chosen), total)
		}
	})
}

// FuzzSplitSignature: what is signed and the signature together are no more than
// the commit, and nothing but the signature is left out.
func FuzzSplitSignature(f *testing.F) {
	f.Add([]byte("tree x\nauthor y\ngpgsig -----BEGIN SSH SIGNATURE-----\n abc\n -----END SSH SIGNATURE-----\n\nmessage\n"))
	f.Add([]byte("tree x\ngpgsig a\ngpgsig b\n\nm"))
	signers := &Signers{keys: map[string]string{}}
	f.Fuzz(func(t *testing.T, commit []byte) {
		if who, err := signers.Verify(commit); err == nil {
			t.Errorf("signed by %q without a key", who)
		}
		signature, signed, err := splitSignature(commit)
		if err == nil && len(signature)+len(signed) > len(commit) {
			t.Errorf("%d and %d bytes of %d", len(signature), len(signed), len(commit))
		}
	})
}

func TestSignersFile(t *testing.T) {
	const key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	for _, good := range []string{key, key + " kim@acme.example\n", "# who\n\nkim@acme.example " + key + "\n"} {
		if s, err := parseSigners([]byte(good)); err != nil || len(s.keys) != 1 {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", "# none\n", "ssh-ed25519 AAAA", "kim " + key[:40], "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "kim namespaces=\"file\" " + key} {
		if _, err := parseSigners([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, err := parseSigners(fmt.Appendf(nil, "%s\nnonsense\n", key)); err == nil || !strings.HasPrefix(err.Error(), "2:") {
		t.Errorf("%v", err)
	}
}
