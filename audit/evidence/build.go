package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// Build makes a pack in a folder that is not there yet. A log that is damaged makes
// a pack that reports the damage: see Facts. Where it returns an error there is no folder.
func Build(ctx context.Context, log pack.Log, out string, o Options) (_ *Built, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	o.Period = pack.Period{From: o.Period.From.UTC(), To: o.Period.To.UTC()}
	if o.Progress == nil {
		o.Progress = func(string, int64) {}
	}
	b := &builder{log: log, options: o, revisions: map[string]string{}}
	if b.database, err = log.Database(ctx); err != nil {
		return nil, err
	}
	if b.unsealed, err = log.Unsealed(ctx, o.Period.From, o.Period.To); err != nil {
		return nil, err
	}
	if err := b.choose(ctx); err != nil {
		return nil, err
	}
	if b.folder, err = newFolder(out); err != nil {
		return nil, err
	}
	defer b.folder.abandon()
	defer b.drop()
	for _, step := range []func(context.Context) error{b.walk, b.decisions, b.replay, b.consistency, b.reconciliations, b.exceptions, b.report, b.sampleDetails, b.access} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	manifest, err := b.manifest()
	if err != nil {
		return nil, err
	}
	if o.Record != nil {
		if err := o.Record(ctx, b.built); err != nil {
			return nil, err
		}
	}
	// The manifest is the last file: a folder without an event in the log is not a pack.
	if err := b.folder.write(pack.ManifestName, -1, func(o *output) error { _, err := o.Write(manifest); return err }); err != nil {
		return nil, err
	}
	if err := b.folder.finish(); err != nil {
		return nil, err
	}
	return &b.built, nil
}
