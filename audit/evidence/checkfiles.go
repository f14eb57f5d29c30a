package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"slices"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// files compares the folder with the manifest, name by name and byte by byte.
func (c *checker) files() error {
	there := map[string]bool{}
	err := fs.WalkDir(c.root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() || name == pack.ManifestName:
		case !d.Type().IsRegular():
			return wrong("%.200q: it is not a regular file", name)
		default:
			if _, listed := c.m.File(name); !listed {
				return wrong("%.200q: the manifest does not list it", name)
			}
			there[name] = true
		}
		return c.ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, f := range c.m.Files {
		if !there[f.Path] {
			return wrong("%s: it is missing", f.Path)
		}
		if err := c.file(f); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) file(f pack.File) error {
	file, err := c.root.Open(f.Path)
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(sum, &progressWriter{c.result.Bytes, c.options.Progress}), file)
	if err != nil {
		return err
	}
	c.result.Bytes += n
	c.result.Files++
	if n != f.Size || hex.EncodeToString(sum.Sum(nil)) != f.Digest {
		return wrong("%s: it does not match the manifest: it has %d bytes and the SHA-256 %x, and the manifest has %d and %.64s", f.Path, n, sum.Sum(nil), f.Size, f.Digest)
	}
	return c.ctx.Err()
}

func (c *checker) facts() error {
	text, err := readFile(c.root, pack.FactsFile, pack.MaxFacts)
	if errors.Is(err, fs.ErrNotExist) {
		return wrong("%s: it is missing", pack.FactsFile)
	}
	if err != nil {
		return err
	}
	if err := pack.ReadJSON(text, &c.manifestFacts); err != nil {
		return wrong("%s: it cannot be read: %v", pack.FactsFile, err)
	}
	p := c.m.Parameters
	if c.manifestFacts.Checkpoint != c.m.Checkpoint || !c.manifestFacts.Period.From.Equal(p.From) || !c.manifestFacts.Period.To.Equal(p.To) ||
		!slices.Equal(c.manifestFacts.Repositories, p.Repositories) || c.manifestFacts.Result.Sound != c.m.Sound {
		return wrong("%s: it contradicts the manifest", pack.FactsFile)
	}
	return nil
}

// checkpoint checks that the checkpoint is signed, and is the one that the facts
// are about. The method trust decides whether its key is trusted.
func (c *checker) checkpoint() error {
	signed := []byte(c.m.Checkpoint)
	var err error
	if c.at, err = audit.ReadCheckpoint(signed); err != nil {
		return wrong("checkpoint: %v", err)
	}
	if _, _, err := audit.OpenCheckpoint(signed, c.manifestFacts.Result.Keys...); err != nil && c.m.Sound {
		return wrong("checkpoint: %v", err)
	}
	if !c.at.Time.Equal(c.m.Time) || c.manifestFacts.Log != c.at.Origin || c.m.Sound && c.manifestFacts.Result.Leaves != c.at.Size {
		return wrong("checkpoint: its time, name or size is not the pack's")
	}
	return nil
}

// progressWriter reports how many bytes were written to it so far.
type progressWriter struct {
	n      int64
	report func(stage string, n int64)
}

func (w *progressWriter) Write(b []byte) (int, error) {
	w.n += int64(len(b))
	w.report("bytes compared with the manifest", w.n)
	return len(b), nil
}
