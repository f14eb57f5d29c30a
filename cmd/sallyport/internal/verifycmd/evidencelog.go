package verifycmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence/pack"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
)

// evidenceLog is the log in PostgreSQL as packs are made from it.
type evidenceLog struct{ *auditreader.Reader }

var _ pack.Log = evidenceLog{}

func (l evidenceLog) Database(ctx context.Context) (pack.Database, error) {
	i, err := l.Identity(ctx)
	return pack.Database{System: i.System, Name: i.Name, User: i.User, Schema: i.Schema, Now: i.Now}, err
}

func (l evidenceLog) Cover(ctx context.Context, from, to time.Time) (pack.Cover, error) {
	c, err := l.Coverage(ctx, from, to)
	return pack.Cover(c), err
}

func (l evidenceLog) Unsealed(ctx context.Context, from, to time.Time) ([]pack.UnsealedRun, error) {
	runs, err := l.UnsealedRuns(ctx, from, to)
	var list []pack.UnsealedRun
	for _, r := range runs {
		list = append(list, pack.UnsealedRun(r))
	}
	return list, err
}

func (l evidenceLog) Next(ctx context.Context, writers []string, numbers []int64) ([]pack.NextNumber, error) {
	next, err := l.NextNumbers(ctx, writers, numbers)
	var list []pack.NextNumber
	for _, n := range next {
		list = append(list, pack.NextNumber(n))
	}
	return list, err
}

func (l evidenceLog) Checkpoint(ctx context.Context, size int64) ([]byte, error) {
	return l.CheckpointOf(ctx, size)
}

func (l evidenceLog) CheckpointAfter(ctx context.Context, t time.Time) ([]byte, error) {
	return l.CheckpointSince(ctx, t)
}

func (l evidenceLog) CheckpointSizes(ctx context.Context, before, hourlyFrom time.Time) ([]int64, error) {
	return l.Reader.CheckpointSizes(ctx, before, hourlyFrom)
}

func (l evidenceLog) Consistency(ctx context.Context, from, to int64) (*audit.Consistency, error) {
	c, err := l.Reader.Consistency(ctx, from, to)
	if errors.Is(err, auditreader.ErrTooShort) {
		return nil, fmt.Errorf("%w: %w", pack.ErrNoTree, err)
	}
	return c, err
}

func (l evidenceLog) Count(ctx context.Context, s pack.Selection) (int64, error) {
	return l.CountDecisions(ctx, s.From, s.To, s.Size, s.Repositories)
}

func (l evidenceLog) Walk(ctx context.Context, size int64, sink pack.Sink, progress func(int64)) error {
	return l.WalkTo(ctx, size, sealedSink{sink}, progress)
}

// sealedSink is a sink to which nothing comes that is not sealed.
type sealedSink struct{ pack.Sink }

// Unsealed is there for the reader's interface.
func (sealedSink) Unsealed(*audit.Entry) {}

func (l evidenceLog) Policy(ctx context.Context, digest string) ([]byte, error) {
	return l.PolicyContent(ctx, digest)
}

func (l evidenceLog) Access(ctx context.Context, from, to time.Time) ([]pack.Table, error) {
	grants, err := l.Reader.Access(ctx, from, to)
	var tables []pack.Table
	for _, g := range grants {
		tables = append(tables, pack.Table{Name: g.Name, Title: g.Title, Note: g.Note, Columns: g.Columns, Rows: g.Rows})
	}
	return tables, err
}

func (l evidenceLog) Queries() []pack.Query {
	var list []pack.Query
	for _, s := range auditreader.EvidenceStatements() {
		list = append(list, pack.Query{Name: s.Name, SQL: s.SQL, Parameters: s.Parameters})
	}
	return list
}
