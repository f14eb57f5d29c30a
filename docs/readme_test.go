package docs_test

import (
	"encoding/xml"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestReadmeIsShort holds README.md to 900 words, code blocks and tables included.
func TestReadmeIsShort(t *testing.T) {
	if words := len(strings.Fields(read(t, "../README.md"))); words > 900 {
		t.Errorf("README.md has %d words, want at most 900: move details to docs/", words)
	}
}

// TestPicturesAgree holds the light and the dark form of each picture in docs/images
// together: both are well-formed, show the same text, and README refers to both.
func TestPicturesAgree(t *testing.T) {
	entries, err := os.ReadDir("images")
	if err != nil {
		t.Fatal(err)
	}
	readme := read(t, "../README.md")
	compared := 0
	for _, e := range entries {
		if !strings.Contains(readme, "docs/images/"+e.Name()) {
			t.Errorf("README.md does not show images/%s", e.Name())
		}
		if name, light := strings.CutSuffix(e.Name(), "-light.svg"); light {
			compared++
			if a, b := labels(t, "images/"+e.Name()), labels(t, "images/"+name+"-dark.svg"); !slices.Equal(a, b) || len(a) == 0 {
				t.Errorf("images/%s: light has %q, dark has %q", name, a, b)
			}
		}
	}
	if compared == 0 {
		t.Error("no picture was compared")
	}
}

// labels returns the text elements of an SVG file, in order.
func labels(t *testing.T, path string) []string {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(read(t, path)))
	var all []string
	for {
		token, err := d.Token()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if text, ok := token.(xml.CharData); ok && strings.TrimSpace(string(text)) != "" {
			all = append(all, strings.TrimSpace(string(text)))
		}
	}
}
