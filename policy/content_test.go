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
