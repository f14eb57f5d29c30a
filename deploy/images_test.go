package deploy_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImagesHaveTheirSources: the context of each image has the packages that its program
// is built from.
func TestImagesHaveTheirSources(t *testing.T) {
	t.Parallel()
	for program, ignore := range map[string]string{
		"../cmd/sallyport": "Dockerfile.dockerignore", "../cmd/sallyport-step": "pipe/Dockerfile.dockerignore",
	} {
		out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", program).Output()
		if err != nil {
			t.Fatal(err)
		}
		lines := "\n" + read(t, ignore)
		found := 0
		for name := range strings.FieldsSeq(string(out)) {
			own, isOwn := strings.CutPrefix(name, "github.com/sallyport/sallyport/")
			if !isOwn {
				continue
			}
			found++
			first, second, _ := strings.Cut(own, "/")
			second, _, _ = strings.Cut(second, "/")
			if !strings.Contains(lines, "\n!"+first+"\n") && !strings.Contains(lines, "\n!"+first+"/"+second+"\n") {
				t.Errorf("%s does not admit %s, which %s imports", ignore, own, program)
			}
		}
		if found == 0 {
			t.Errorf("%s has no packages", program)
		}
	}
}
