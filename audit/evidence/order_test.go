package evidence

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// TestRecordedFirstIsNeeded: a process that is killed before its pack is recorded leaves
// a folder that is not a pack, also under another name. With the manifest in it, which
// is written afterwards, the folder passes and the log has no event of it.
func TestRecordedFirstIsNeeded(t *testing.T) {
	m, o := october(t), options(t)
	dir, left := filepath.Join(t.TempDir(), "pack"), filepath.Join(t.TempDir(), "left")
	var manifest []byte
	o.Record = func(_ context.Context, b Built) (err error) { // a kill in here leaves this
		if manifest, err = b.Manifest.Encode(o.Signer); err != nil {
			t.Error(err)
		}
		return errors.Join(os.CopyFS(left, os.DirFS(dir+partial)), errRecord)
	}
	if _, err := Build(t.Context(), m, dir, o); !errors.Is(err, errRecord) {
		t.Fatal(err)
	}
	if c, err := Check(t.Context(), left, CheckOptions{}); !errors.Is(err, ErrNoPack) {
		t.Errorf("a pack that is not recorded: %+v, %v", c, err)
	}
	if err := os.WriteFile(filepath.Join(left, pack.ManifestName), manifest, 0o600); err != nil {
		t.Fatal(err)
	}
	if c := check(t, left, nil); len(c.Findings) > 0 {
		t.Errorf("with its manifest: %+v", c.Findings)
	}
}

// newest is a log whose packs use the newest checkpoint.
type newest struct{ *memory }

func (n newest) Checkpoint(ctx context.Context, _ int64) ([]byte, error) {
	return n.memory.Checkpoint(ctx, n.notes[len(n.notes)-1].Size)
}

// TestFirstCheckpointIsNeeded: with the newest checkpoint instead of the first that
// covers the period, the pack of a log that has grown is another one.
func TestFirstCheckpointIsNeeded(t *testing.T) {
	m := october(t)
	packs := func() (first, latest string) {
		dir := filepath.Join(t.TempDir(), "pack")
		if _, err := Build(t.Context(), newest{m}, dir, options(t)); err != nil {
			t.Fatal(err)
		}
		return tree(t, build(t, m, nil))[pack.ManifestName], tree(t, dir)[pack.ManifestName]
	}
	first, latest := packs()
	m.grow(300, at(27, 0))
	m.seal(at(27, 1))
	firstAgain, latestAgain := packs()
	if first != firstAgain {
		t.Error("the first checkpoint gives another pack")
	}
	if latest == latestAgain {
		t.Error("the newest checkpoint gives the same pack")
	}
}
