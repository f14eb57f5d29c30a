package policy_test

import (
	"testing"

	"github.com/sallyport/sallyport/policy"
)

func TestSnapshotDigestIsTheDocumentedOne(t *testing.T) {
	// printf 'data/a.yaml\0004\000a: 1egress/x.rego\0009\000package x' | sha256sum
	const want = "sha256:2cd2ed97efffad58a559542a9c845f6222b7595e1bf53424afa0fe615b9422c5"
	s, err := policy.NewSnapshot([]policy.File{
		{Path: "egress/x.rego", Content: []byte("package x")},
		{Path: "data/a.yaml", Content: []byte("a: 1")},
	}, "c0ffee")
	if err != nil {
		t.Fatal(err)
	}
	if s.Digest != want {
		t.Errorf("digest %s, want %s", s.Digest, want)
	}
	if s.Files[0].Path != "data/a.yaml" {
		t.Errorf("files are not sorted: %q comes first", s.Files[0].Path)
	}
	if got := s.Revision(); got != (policy.Revision{Digest: want, Commit: "c0ffee"}) {
		t.Errorf("revision %+v", got)
	}
}

func TestSnapshotTellsTreesApart(t *testing.T) {
	trees := map[string][]policy.File{
		"empty":          nil,
		"one":            {{Path: "egress/a.rego", Content: []byte("x")}},
		"renamed":        {{Path: "egress/b.rego", Content: []byte("x")}},
		"split":          {{Path: "egress/a.rego"}, {Path: "egress/b.rego", Content: []byte("x")}},
		"moved content":  {{Path: "egress/a.rego", Content: []byte("x")}, {Path: "egress/b.rego"}},
		"content as one": {{Path: "egress/a.rego", Content: []byte("egress/b.rego\x001\x00x")}},
	}
	seen := map[string]string{}
	for name, files := range trees {
		s, err := policy.NewSnapshot(files, "")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if other, ok := seen[s.Digest]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[s.Digest] = name
	}
}

func TestSnapshotRefusesPaths(t *testing.T) {
	for _, path := range []string{"", ".", "../a.rego", "/egress/a.rego", "egress//a.rego", "egress/../a.rego", "egress/\x00.rego", "README.md", ".git/a.rego"} {
		if _, err := policy.NewSnapshot([]policy.File{{Path: path}}, ""); err == nil {
			t.Errorf("%q was accepted", path)
		}
	}
	twice := []policy.File{{Path: "egress/a.rego"}, {Path: "egress/a.rego"}}
	if _, err := policy.NewSnapshot(twice, ""); err == nil {
		t.Error("a path that occurs twice was accepted")
	}
}

func TestBelongs(t *testing.T) {
	for path, want := range map[string]bool{
		"egress/a.rego": true, "deep/in/a.rego": true, "a.rego": true, "data/a.yaml": true, "data/x/y.yml": true, "data/x.json": true,
		"README.md": false, "bitbucket-pipelines.yml": false, "egress/a.yaml": true, "data/README.md": false, ".git/x.rego": false,
		"egress/a.rego.bak": true, "database/x.yaml": false, "egress/README.md": false,
	} {
		if got := policy.Belongs(path); got != want {
			t.Errorf("Belongs(%q) = %v, want %v", path, got, want)
		}
	}
}
