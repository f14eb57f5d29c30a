package writer

import (
	"context"
	"fmt"
	"time"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// succeed makes the first events of the writer that continues the one which lost
// events. Nothing is in the database yet.
func (l *Log) succeed(lost loss, clock time.Duration) *succession {
	now := time.Now()
	s := &succession{loss: lost, before: l.secret, connect: l.connect.Copy()}
	s.writer, s.secret = auditpg.NewWriter(now)
	s.connect.RuntimeParams["application_name"] = auditpg.ApplicationName(s.writer)
	s.group = newGroup(s.writer)
	started := l.started(s.writer, clock, lost.now)
	started.Attributes = append(started.Attributes,
		audit.Attribute{Name: "previous_writer", Value: lost.writer},
		audit.Attribute{Name: "reason", Value: "events that the database had acknowledged to the previous writer are missing"})
	started.Normalise()
	for i, e := range []*audit.Event{started, lost.event(now)} {
		e.Writer, e.WriterSequence = s.writer, int64(i+1)
		s.group.add(e, nil)
	}
	return s
}

// begin makes the succession durable: the first events of the new writer, over a
// session of its own. It may be called again after an error.
func (s *succession) begin(ctx context.Context, l *Log) (*session, error) {
	session, err := openSessionWithin(ctx, s.connect, l.config.WriteTimeout)
	if err != nil {
		return nil, err
	}
	err = session.authenticate(ctx, s.secret)
	if err == nil {
		err = session.showPrevious(ctx, s.before)
	}
	if err == nil {
		_, err = session.settle(ctx, s.group)
	}
	if err != nil {
		session.close()
		return nil, fmt.Errorf("record that acknowledged events are missing: %w", err)
	}
	return session, nil
}

// become continues under the name of the succession, whose first events are
// durable. What is in the journal and in the group in flight (nil: there is none)
// gets new numbers; their times, decision ids and all else stay.
func (l *Log) become(s *succession, g *group) error {
	sequence := s.group.rows[len(s.group.rows)-1].sequence
	if l.journal != nil {
		var err error
		if sequence, err = l.journal.continueAs(s.writer, s.secret, sequence); err != nil {
			return fmt.Errorf("continue the journal of writer %s as writer %s: %w", l.writer, s.writer, err)
		}
		l.stats.journalBytes.Store(l.journal.size)
	}
	if g != nil {
		g.renumber(s.writer, sequence)
		sequence += int64(len(g.rows))
	}
	l.log.Error("acknowledged events are missing in the database: a failover or a restore lost them; this process continues as another writer",
		"previous_writer", s.loss.writer, "first_missing", s.loss.first, "last_missing", s.loss.last, "writer", s.writer)
	l.writer, l.secret, l.connect, l.sequence = s.writer, s.secret, s.connect, sequence
	l.name.Store(&s.writer)
	l.acknowledged = acknowledged{where: s.loss.now}
	l.acknowledged.keep(s.group)
	l.next = nil
	l.stats.recorded.Add(int64(len(s.group.rows)))
	l.stats.lost.Add(s.loss.last - s.loss.first + 1)
	return nil
}
