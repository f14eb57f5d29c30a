package source

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
)

// hostileCommits are commits by a user who may write in the folder of one repository
// alone. A server that does not check objects accepts them. fault is that of the
// folder; "" if it has none.
var hostileCommits = map[string]struct {
	files       func(folder string, in *bytes.Buffer)
	path, fault string
	// remove takes away what keeps the commit from being an error of the revision, and
	// kind is that of the refusal then.
	remove func(*Git)
	kind   Kind
}{
	"many files": {func(folder string, in *bytes.Buffer) {
		for i := range maxFolderEntries + 1 {
			inline(in, fmt.Sprintf("%s/%d.md", folder, i), "x")
		}
	}, "-", "the folder holds more than 10000 files and folders", withoutShares, TooLarge},
	"long names": {func(folder string, in *bytes.Buffer) {
		for i := range 1200 {
			inline(in, fmt.Sprintf("%s/%d%s.md", folder, i, strings.Repeat("n", 4000)), "x")
		}
	}, "-", "the names of files and folders in it are over 4 MiB", withoutShares, TooLarge},
	"long attributes": {func(folder string, in *bytes.Buffer) {
		inline(in, folder+"/.gitattributes", strings.Repeat("x", 3000))
	}, "", "", withStrictObjects, MalformedHistory},
	"a submodule's address": {func(folder string, in *bytes.Buffer) {
		inline(in, folder+"/.gitmodules", "[submodule \"a\"]\n\tpath = a\n\turl = -u./payload\n")
	}, "", "", withStrictObjects, MalformedHistory},
	"a name that is not text": {func(folder string, in *bytes.Buffer) { inline(in, folder+"/\xff.rego", ruleText) }, "\uFFFD.rego", "is not a path in UTF-8",
		func(g *Git) { g.bounds.folder = func(string) string { return "" } }, InvalidTree},
}

func withoutShares(g *Git) {
	g.bounds.folder, g.bounds.entries, g.bounds.treeBytes = func(string) string { return "" }, maxFolderEntries, 4<<20
}

func withStrictObjects(g *Git) { g.harmless = nil }

// TestHostileCommits: a commit in the folder of one repository never keeps the
// organization's policy out. Without what prevents that, each of them does.
func TestHostileCommits(t *testing.T) {
	t.Parallel()
	for name, c := range hostileCommits {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newForge(t)
			f.fastImport(func(in *bytes.Buffer) {
				inline(in, "egress/a.rego", ruleText)
				inline(in, "repositories/acme/tools/a.rego", ruleText)
				inline(in, "repositories/acme/website/a.rego", ruleText)
			})
			g := f.source(nil)
			good := offered(t, g, "")
			f.fastImport(func(in *bytes.Buffer) { c.files("repositories/acme/tools", in) })
			hostile := offered(t, g, good.Commit)
			if c.fault != "" {
				wantFault(t, hostile, "repositories/acme/tools", c.path, c.fault)
			} else if hostile.Digest != good.Digest {
				t.Errorf("%s", paths(hostile))
			}
			// What the organization commits afterwards is offered.
			f.fastImport(func(in *bytes.Buffer) { inline(in, "egress/a.rego", ruleText+"# later\n") })
			if s := offered(t, g, hostile.Commit); s.Digest == hostile.Digest || s.Commit != f.head() {
				t.Errorf("%s: %s", s.Commit, paths(s))
			}
			bare := f.source(nil)
			c.remove(bare)
			refused(t, bare, "", c.kind, "")
		})
	}
}

// TestGitReuse: what a source reads after a change is what a new source reads.
func TestGitReuse(t *testing.T) {
	t.Parallel()
	f := newForge(t)
	folder := func(i int) string { return fmt.Sprintf("repositories/acme/repository-%d", i) }
	f.fastImport(func(in *bytes.Buffer) {
		inline(in, "egress/a.rego", ruleText)
		for i := range 20 {
			inline(in, folder(i)+"/a.rego", fmt.Sprintf("package a%d\n", i))
			inline(in, folder(i)+"/sub/empty.rego", "")
		}
	})
	g := f.source(nil)
	commit := offered(t, g, "").Commit
	for _, change := range []func(in *bytes.Buffer){
		func(in *bytes.Buffer) { inline(in, "egress/b.rego", ruleText) },
		func(in *bytes.Buffer) {
			inline(in, folder(1)+"/a.rego", "package other\n")
			inline(in, folder(2)+"/sub/b.rego", "package other\n")
			fmt.Fprintf(in, "D %s/sub/empty.rego\nD %s\nR %s repositories/acme/renamed\n", folder(3), folder(4), folder(5))
			fmt.Fprintf(in, "R %s x\nR %s %[1]s\nR x %[2]s\n", folder(6), folder(7)) // exchanged
		},
		func(in *bytes.Buffer) { // faults
			fmt.Fprintf(in, "M 120000 inline %s/b.rego\ndata 1\nx\n", folder(8))
			inline(in, folder(9)+"-"+strings.Repeat("n", 300)+"/\xff.rego", "x")
		},
		func(in *bytes.Buffer) { fmt.Fprintf(in, "M 120000 inline %s/c.rego\ndata 1\nx\n", folder(8)) },
	} {
		f.fastImport(change)
		again, fresh := offered(t, g, commit), offered(t, f.source(nil), "")
		if again.Digest != fresh.Digest || again.Commit == commit {
			t.Errorf("%s, and by a new source %s", paths(again), paths(fresh))
		}
		commit = again.Commit
	}
}
