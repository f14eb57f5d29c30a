package evidence

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// Check compares a pack with its manifest, verifies the signature of the manifest,
// and makes everything that is made of the population again. It needs nothing
// but the folder. Damage is a finding and no error: an error means that the folder
// could not be read, or is not a pack.
func Check(ctx context.Context, dir string, o CheckOptions) (*Checked, error) {
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	text, err := readFile(root, pack.ManifestName, pack.MaxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s has no manifest", ErrNoPack, dir)
	}
	if err != nil {
		return nil, err
	}
	c := &checker{ctx: ctx, root: root, options: o, result: &Checked{}}
	for _, part := range []func() error{
		func() error { return c.manifest(text) },
		c.files, c.facts, c.checkpoint, c.population, c.events, c.numbers, c.reconciliations, c.consistency, c.trust, c.tables, c.sampleDetails,
	} {
		err := part()
		if f, ok := errors.AsType[finding](err); ok {
			c.result.Findings = append(c.result.Findings, f.text)
			break // what follows depends on this
		}
		if err != nil {
			return nil, err
		}
	}
	return c.result, nil
}
