package verifycmd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	auditreader "github.com/sallyport/sallyport/audit/postgres/reader"
)

// evidenceLog is the log in PostgreSQL as packs are made from it.
type evidenceLog struct{ *auditreader.Reader }

var _ evidence.Log = evidenceLog{}

func (l evidenceLog) Database(ctx context.Context) (evidence.Database, error) {
	i, err := l.Identity(ctx)
	return evidence.Database{System: i.System, Name: i.Name, User: i.User, Schema: i.Schema, Now: i.Now}, err
}

func (l evidenceLog) Cover(ctx context.Context, from, to time.Time) (evidence.Cover, error) {
	c, err := l.Coverage(ctx, from, to)
	return evidence.Cover(c), err
}

func (l evidenceLog) Unsealed(ctx context.Context, from, to time.Time) ([]evidence.UnsealedRun, error) {
	runs, err := l.UnsealedRuns(ctx, from, to)
	var list []evidence.UnsealedRun
	for _, r := range runs {
		list = append(list, evidence.UnsealedRun(r))
	}
	return list, err
}

func (l evidenceLog) Next(ctx context.Context, writers []string, numbers []int64) ([]evidence.NextNumber, error) {
	next, err := l.NextNumbers(ctx, writers, numbers)
	var list []evidence.NextNumber
	for _, n := range next {
		list = append(list, evidence.NextNumber(n))
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
		return nil, fmt.Errorf("%w: %w", evidence.ErrNoTree, err)
	}
	return c, err
}

func (l evidenceLog) Count(ctx context.Context, s evidence.Selection) (int64, error) {
	return l.CountDecisions(ctx, s.From, s.To, s.Size, s.Repositories)
}

func (l evidenceLog) Walk(ctx context.Context, size int64, sink evidence.Sink, progress func(int64)) error {
	return l.WalkTo(ctx, size, sealedSink{sink}, progress)
}

// sealedSink is a sink to which nothing comes that is not sealed.
type sealedSink struct{ evidence.Sink }

// Unsealed is there for the reader's interface.
func (sealedSink) Unsealed(*audit.Entry) {}

func (l evidenceLog) Policy(ctx context.Context, digest string) ([]byte, error) {
	return l.PolicyContent(ctx, digest)
}

func (l evidenceLog) Access(ctx context.Context, from, to time.Time) ([]evidence.Table, error) {
	grants, err := l.Reader.Access(ctx, from, to)
	var tables []evidence.Table
	for _, g := range grants {
		tables = append(tables, evidence.Table{Name: g.Name, Title: g.Title, Note: g.Note, Columns: g.Columns, Rows: g.Rows})
	}
	return tables, err
}

func (l evidenceLog) Queries() []evidence.Query {
	var list []evidence.Query
	for _, s := range auditreader.EvidenceStatements() {
		list = append(list, evidence.Query{Name: s.Name, SQL: s.SQL, Parameters: s.Parameters})
	}
	return list
}
