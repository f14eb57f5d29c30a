package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

func TestContentIsWhatTheDigestIsOf(t *testing.T) {
	s, err := NewSnapshot([]File{
		{Path: "egress/b.rego", Content: []byte("package sallyport.egress\n")},
		{Path: "data/hosts/a.yaml", Content: []byte{0, 'x'}},
	}, "")
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(s.Content())
	if got := "sha256:" + hex.EncodeToString(sum[:]); got != s.Digest {
		t.Errorf("the content's digest is %s, the snapshot's %s", got, s.Digest)
	}
}

func TestParseContent(t *testing.T) {
	s, err := NewSnapshot([]File{
		{Path: "egress/b.rego", Content: []byte("package sallyport.egress\n")},
		{Path: "data/hosts/a.yaml", Content: []byte{0, 'x'}},
		{Path: "data/hosts/empty.yaml"},
	}, "c0ffee")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseContent(s.Content(), "c0ffee")
	if err != nil || got.Revision() != s.Revision() || len(got.Files) != 3 {
		t.Fatalf("%+v, %v", got, err)
	}
	for _, bad := range []string{
		"egress/a.rego", "egress/a.rego\x00", "egress/a.rego\x001", "egress/a.rego\x002\x00x", "egress/a.rego\x0001\x00x",
		"egress/a.rego\x00+1\x00x", "egress/a.rego\x00-1\x00x", "../a.rego\x000\x00", "README.md\x000\x00",
		"egress/b.rego\x000\x00egress/a.rego\x000\x00", "egress/b.rego\x000\x00egress/b.rego\x000\x00", "egress/a.rego\x0099999999999999999999\x00",
	} {
		if got, err := ParseContent([]byte(bad), ""); err == nil {
			t.Errorf("%q was read as %+v", bad, got.Files)
		}
	}
}

// FuzzParseContent: whatever is read is written again as it was, and has its digest.
func FuzzParseContent(f *testing.F) {
	f.Add([]byte("egress/a.rego\x003\x00abcegress/b.rego\x000\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		s, err := ParseContent(content, "")
		if err != nil {
			return
		}
		sum := sha256.Sum256(content)
		if string(s.Content()) != string(content) || s.Digest != "sha256:"+hex.EncodeToString(sum[:]) {
			t.Errorf("%q became %q", content, s.Content())
		}
	})
}
