package evidence

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestCompressor: a file of any length is what gunzip makes of it, and the same each
// time, whatever the pieces are that it is written in.
func TestCompressor(t *testing.T) {
	for _, size := range []int{0, 1, compressedBlock - 1, compressedBlock, compressedBlock + 1, 3*compressedBlock + 7} {
		text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
		var first string
		for _, piece := range []int{size + 1, 1000, 4096} {
			var out bytes.Buffer
			c := newCompressor(&out)
			for rest := text; rest != ""; rest = rest[min(piece, len(rest)):] {
				_, _ = c.Write([]byte(rest[:min(piece, len(rest))]))
			}
			length, digest, err := c.close()
			if err != nil || length != int64(size) || digest != hexDigest(text) || unzip(t, out.String()) != text {
				t.Errorf("%d bytes in pieces of %d: %d, %s, %v", size, piece, length, digest, err)
			}
			if first == "" {
				first = out.String()
			}
			if out.String() != first {
				t.Errorf("%d bytes in pieces of %d are other bytes", size, piece)
			}
		}
	}
}

// TestCheckDoesNotCompress: another compressor makes other bytes of the same
// population, and the pack holds; another population under the same digest of the
// content does not, and neither does one without an end.
func TestCheckDoesNotCompress(t *testing.T) {
	dir := build(t, october(t), nil)
	files := tree(t, dir)
	text := unzip(t, files[pack.PopulationFile])
	with := func(level int, text string) string {
		var b bytes.Buffer
		z, err := gzip.NewWriterLevel(&b, level)
		if err != nil {
			t.Fatal(err)
		}
		z.Name = "population.jsonl"
		if _, err := z.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	put := func(file string, content pack.Content) []string {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, pack.PopulationFile), []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
		m, _, err := pack.OpenManifest([]byte(files[pack.ManifestName]), []audit.Key{signer(t).Key()}, false)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Files {
			if f := &m.Files[i]; f.Path == pack.PopulationFile {
				f.Size, f.Digest, f.Content = int64(len(file)), hexDigest(file), &content
			}
		}
		signed, err := m.Encode(signer(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pack.ManifestName), signed, 0o600); err != nil {
			t.Fatal(err)
		}
		return check(t, dir, nil).Findings
	}
	same := pack.Content{Size: int64(len(text)), Digest: hexDigest(text)}
	if found := put(with(gzip.BestCompression, text), same); len(found) > 0 {
		t.Errorf("another compressor: %q", found)
	}
	for name, file := range map[string]string{
		"more lines":        with(gzip.BestSpeed, text+text),
		"endless":           with(gzip.BestSpeed, text+strings.Repeat("\n", 64<<20)),
		"fewer lines":       with(gzip.BestSpeed, text[:strings.Index(text, "\n")+1]),
		"not compressed":    text,
		"something follows": files[pack.PopulationFile] + "x",
		"cut":               files[pack.PopulationFile][:len(files[pack.PopulationFile])-9],
	} {
		if found := put(file, same); len(found) != 1 || !strings.HasPrefix(found[0], pack.PopulationFile) {
			t.Errorf("%s: %q", name, found)
		}
	}
}
