package source

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/sallyport/sallyport/policy"
)

// fastImport commits files on main by git fast-import: thousands of files without a work
// tree. files writes commands that change files, such as "M 100644 inline <path>".
func (f *forge) fastImport(files func(*bytes.Buffer)) string {
	f.t.Helper()
	var in bytes.Buffer
	in.WriteString("commit refs/heads/main\ncommitter Kim <kim@acme.example> 1700000000 +0000\ndata 6\npolicy\n")
	if exec.Command("git", "-C", f.work, "rev-parse", "--verify", "--quiet", "refs/heads/main").Run() == nil {
		in.WriteString("from refs/heads/main^0\n")
	}
	files(&in)
	cmd := exec.Command("git", "-C", f.work, "fast-import", "--quiet", "--force")
	cmd.Env = append(os.Environ(), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL="+os.DevNull)
	cmd.Stdin = &in
	if out, err := cmd.CombinedOutput(); err != nil {
		f.t.Fatalf("git fast-import: %v\n%s", err, out)
	}
	return f.head()
}

// inline writes the command that makes a file.
func inline(b *bytes.Buffer, path, content string) {
	fmt.Fprintf(b, "M 100644 inline %s\ndata %d\n%s\n", path, len(content), content)
}

// BenchmarkGitOffer reads 50,000 repositories with three files each: first all of them,
// then one that changed.
func BenchmarkGitOffer(b *testing.B) {
	f := newForge(b)
	f.fastImport(func(in *bytes.Buffer) {
		inline(in, "egress/a.rego", ruleText)
		for i := range 50_000 {
			folder := fmt.Sprintf("repositories/acme/repository-%05d/", i)
			inline(in, folder+"rules.rego", fmt.Sprintf("package sallyport.repository[\"acme/repository-%05d\"]\n\nallow contains {\"rule\": \"x\"} if input.target.host == \"a%d.example\"\n", i, i))
			inline(in, folder+"rules_test.rego", fmt.Sprintf("package sallyport.repository_test[\"acme/repository-%05d\"]\n\ntest_x if true\n", i))
			inline(in, folder+"README.md", "rules\n")
		}
	})
	b.Run("all", func(b *testing.B) {
		g := f.source(nil)
		for b.Loop() {
			g.last = nil
			_, err := g.Offer(b.Context(), policy.Revision{})
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one changed", func(b *testing.B) {
		g := f.source(nil)
		last := offered(b, g, "")
		n := 0
		for b.Loop() {
			n++
			b.StopTimer()
			f.fastImport(func(in *bytes.Buffer) {
				inline(in, "repositories/acme/repository-00017/rules.rego", fmt.Sprintf("package sallyport.repository[\"acme/repository-00017\"]\n# %d\n", n))
			})
			b.StartTimer()
			s := offered(b, g, last.Commit)
			if s == last {
				b.Fatal("it did not change")
			}
			last = s
		}
	})
}
