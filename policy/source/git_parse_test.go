package source

import (
	"fmt"
	"strings"
	"testing"
)

const someObject = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"

func TestParseBatchIsStrict(t *testing.T) {
	names, sizes := []string{someObject}, []objectSize{{"blob", 3}}
	if contents, err := parseBatch([]byte(someObject+" blob 3\nabc\n"), names, sizes); err != nil || string(contents[0]) != "abc" {
		t.Errorf("%q, %v", contents, err)
	}
	for _, out := range []string{"", someObject + " missing\n", someObject + " blob 3\nab", someObject + " blob 3\nabc", someObject + " blob 3\nabcd\n", someObject + " tree 3\nabc\n", someObject + " blob 3\nabc\nmore"} {
		if contents, err := parseBatch([]byte(out), names, sizes); err == nil {
			t.Errorf("%q was read as %q", out, contents)
		}
	}
}

func TestParseSizesIsStrict(t *testing.T) {
	names := []string{someObject}
	for out, want := range map[string]objectSize{" blob 3\n": {"blob", 3}, " missing\n": {}} {
		if sizes, err := parseSizes([]byte(someObject+out), names); err != nil || sizes[0] != want {
			t.Errorf("%q: %v, %v", out, sizes, err)
		}
	}
	for _, out := range []string{"", "\n", someObject, someObject + " blob 3", someObject + " blob\n", someObject + " blob -1\n", someObject + "  3\n", "a" + someObject[1:] + " blob 3\n", someObject + " blob 3\nmore"} {
		if sizes, err := parseSizes([]byte(out), names); err == nil {
			t.Errorf("%q was read as %v", out, sizes)
		}
	}
}

// FuzzParseTree: what is read of a tree object is all that is in it.
func FuzzParseTree(f *testing.F) {
	f.Add([]byte("100644 a.rego\x0001234567890123456789040000 b\x0001234567890123456789"))
	f.Add([]byte("40000 ../x\x00012345678901234567890"))
	f.Fuzz(func(t *testing.T, content []byte) {
		items, err := parseTree(content, 20)
		if err != nil {
			return
		}
		size := 0
		for _, item := range items {
			size += len(item.mode) + 1 + len(item.name) + 1 + 20
			if !objectName.MatchString(item.object) || strings.ContainsRune(item.name, 0) || strings.HasPrefix(item.mode, "0") {
				t.Errorf("%+v", item)
			}
		}
		if size > len(content) || size < len(content)-8*len(items) {
			t.Errorf("%d bytes of %d", size, len(content))
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
