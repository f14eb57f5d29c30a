package evidence

import (
	"context"

	"github.com/sallyport/sallyport/audit/evidence/pack"
)

// Build writes a pack from log to the folder out, which must not exist. The pack of a damaged
// log reports the damage: see [pack.Facts]. If Build returns an error, it leaves no folder.
// The error wraps [ErrParameters] for invalid options and [ErrNotCovered] if no checkpoint
// covers the period.
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
	// The manifest is written last, after the log has the event of the pack: a folder
	// without a manifest is not a pack.
	if err := b.folder.write(pack.ManifestName, -1, func(o *output) error { _, err := o.Write(manifest); return err }); err != nil {
		return nil, err
	}
	if err := b.folder.finish(); err != nil {
		return nil, err
	}
	return &b.built, nil
}
