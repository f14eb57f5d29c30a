package writer

import "time"

// Stats is a snapshot of the log's counters.
type Stats struct {
	Recorded     int64         // events that are durable
	Groups       int64         // transactions that they took
	Waiting      int           // events in the queue
	Rejected     int64         // events that were refused because the queue was full: counted only
	OverShare    int64         // of these, events of a repository or step that had used its share
	Late         int64         // events whose caller did not wait to the end
	Lost         int64         // events that the database had acknowledged and misses
	Reconnects   int64         // times that the connection was lost and found again
	Outage       time.Duration // how long the database has been unavailable; zero: it is available
	Journaled    int64         // events that went to the journal
	Spooled      int64         // allows among them that counted at once
	JournalBytes int64         // the journal's size now
	JournalSince time.Time     // when its first event was put in it; zero: it is empty
	JournalFull  bool          // it takes no more: it is full, too old, or cannot be written
	Spooling     bool          // the database is unavailable, and the journal backs allows
	Unsafe       bool          // the database's settings can lose what it has committed
}

// Stats returns the counters. It costs some memory reads.
func (l *Log) Stats() Stats {
	s := Stats{
		Recorded: l.stats.recorded.Load(), Groups: l.stats.groups.Load(), Waiting: l.queue.len(), OverShare: l.stats.overShare.Load(),
		Lost: l.stats.lost.Load(), Rejected: l.stats.rejected.Load(), Late: l.stats.late.Load(), Reconnects: l.stats.reconnects.Load(),
		Journaled: l.stats.journaled.Load(), Spooled: l.stats.spooled.Load(), JournalBytes: l.stats.journalBytes.Load(),
		JournalFull: l.stats.journalFull.Load() || l.journalOld(), Unsafe: l.stats.unsafe.Load(),
	}
	if since := l.stats.journalSince.Load(); since != 0 {
		s.JournalSince = time.Unix(0, since)
	}
	if o := l.outage.Load(); o != nil {
		s.Outage = time.Since(o.since)
	}
	if o := l.currentOutage(); o != nil {
		s.Spooling = l.mayAllow(o)
	}
	return s
}
