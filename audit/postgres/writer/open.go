package writer

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
)

// Open connects, checks the schema's version, makes the partitions of this and
// the next month, replays what an earlier process left in the journal, and
// records that this writer started. ctx bounds opening alone. An error states what
// an operator should do.
func Open(ctx context.Context, config Config) (*Log, error) {
	l := &Log{config: withDefaults(config)}
	l.log = l.config.Log
	name, secret := auditpg.NewWriter(time.Now())
	l.name.Store(&name)
	var err error
	// The name leads a new session to what an old one of this writer left open.
	if l.connect, err = database.ParseConfig(config.URL, auditpg.ApplicationName(name)); err != nil {
		return nil, fmt.Errorf("audit log: %w", err)
	}
	l.connect.RuntimeParams["application_name"] = auditpg.ApplicationName(name)
	l.queue = newQueue(l.config.Queue, l.config.QueueBytes)
	l.closing, l.done = make(chan struct{}), make(chan struct{})
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.committer = newCommitter(name, secret)
	if err := l.begin(ctx); err != nil {
		l.cancel()
		l.committer.discard()
		return nil, fmt.Errorf("audit log: %w", err)
	}
	go l.run()
	return l, nil
}

// begin does what must work before anything is recorded.
func (l *Log) begin(ctx context.Context) error {
	if err := database.CheckSessions(ctx, l.connect); err != nil {
		return err
	}
	s, err := l.openSession(ctx)
	if err != nil {
		return err
	}
	l.session = s
	clock, err := l.examine(ctx, s)
	if err != nil {
		return err
	}
	if err := s.ensureAhead(ctx, time.Now()); err != nil {
		return database.Explain("make partitions", &l.connect.Config, err)
	}
	if err := l.compareDatabase(ctx, s); err != nil {
		return err
	}
	if err := l.compareTails(ctx, s); err != nil {
		return err
	}
	if err := l.openJournal(ctx); err != nil {
		return err
	}
	g := newGroup(l.writer)
	started := l.started(l.writer, clock, s.where)
	if len(l.lostTails) > 0 {
		started.Attributes = append(started.Attributes, audit.Attribute{Name: "previous_writer", Value: strings.Join(l.lostTails, " ")})
		started.Normalise()
		if err := s.showPrevious(ctx, l.lostSecrets...); err != nil {
			return err
		}
	}
	l.number(g, started, nil)
	if _, err := s.settle(ctx, g); err != nil {
		return database.Explain("record the writer's start", &l.connect.Config, err)
	}
	l.acknowledged.where = s.where
	l.acknowledged.keep(g)
	l.stats.recorded.Add(1)
	return nil
}

// Close takes nothing new, writes what is waiting and the event of the writer's
// end, and returns when that is durable. Where ctx ends first, it returns an
// error with the number of events that were not written.
func (l *Log) Close(ctx context.Context) error {
	l.closeOnce.Do(func() { close(l.closing) })
	select {
	case <-l.done:
	case <-ctx.Done():
		l.cancel()
		<-l.done
	}
	l.cancel()
	if l.clean { // written before done was closed
		return nil
	}
	return fmt.Errorf("close audit log: %d events were not written: %w",
		l.stats.unwritten.Load(), cmp.Or(l.Available(), context.Cause(ctx), ErrUnavailable))
}
