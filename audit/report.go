package audit

import "time"

// Report is the result of a verification.
type Report struct {
	Leaves      int64
	Checkpoints int64
	Unsealed    int64     // events that no checkpoint covers: nothing is proven of them
	Oldest      time.Time // of these
	Writers     int       // that have sealed events
	Unended     int       // of these, those without an end
	// SignedWriters counts those of which an event shows that their process has a key of
	// the log (see [Signer.SignWriter]), and UnsignedWriters the others, without
	// [DatabaseWriter]. Unsigned lists at most a hundred, those with the most events first.
	SignedWriters   int
	UnsignedWriters int
	Unsigned        []UnsignedWriter
	First, Last     time.Time  // of the sealed events, by their records
	Covered         Checkpoint // the latest checkpoint of the log that holds
	Keys            []Key      // that signed checkpoints of the log, in their order
	// Uses has the keys that signed or may sign next, in their order, each with the
	// sizes that it signed and whether it is trusted.
	Uses []KeyUse
	// Anchored is the largest checkpoint from outside that holds. Size 0: none,
	// so that a log which was rewritten and signed again as a whole, or cut off
	// at a checkpoint, cannot be distinguished from the true one.
	Anchored Checkpoint
	// Vouched: a key from outside, or a successor of one, signed a valid checkpoint. It vouches for what its checkpoints cover.
	Vouched bool
	// Warnings are about input from outside that could not be used, and not about the
	// log.
	Warnings []string
	// Expired counts the sealed events that are not there and that retention
	// accounts for; Retentions are its events, those that account for anything.
	Expired    int64
	Retentions []Retention
	// Missing counts the numbers that were never sealed and that a declaration
	// accounts for; Gaps are the declarations, those that account for anything.
	Missing int64
	Gaps    []GapDeclaration
	// Lost is what writers report as lost after a failover or a restore: at
	// most a thousand reports of writers that have a key of the log, then as many of
	// others. MoreLost counts what is left out.
	Lost     []LostRange
	MoreLost int64
	// Lateness lists events that were sealed long after their own time. It is not
	// damage: events in a journal during an outage are late as well.
	Lateness Lateness
	// Cadence lists long times without a checkpoint. It is not damage: no instance
	// sealed.
	Cadence Cadence
	// Findings has the first hundred, the first damaged place of the tree first.
	Findings []Finding
	Counts   map[Damage]int64
}

// Sound reports whether nothing was found.
func (r *Report) Sound() bool { return len(r.Counts) == 0 }

// Add adds what was found outside of the tree.
func (r *Report) Add(found ...Finding) {
	var all findings
	for _, f := range found {
		all.add(f)
	}
	for damage, n := range all.counts {
		if r.Counts == nil {
			r.Counts = make(map[Damage]int64)
		}
		r.Counts[damage] += n
	}
	r.Findings = append(r.Findings, all.list...)
	r.Findings = r.Findings[:min(len(r.Findings), maxFindings)]
}

// An UnsignedWriter is a writer with sealed events of which none shows that its process
// has a key of the log: an instance without the key, or any login that may record. Its
// events are what it reports, and nothing else vouches for them.
type UnsignedWriter struct {
	Writer  string
	Events  int64 // that are sealed
	Started bool  // it recorded its start
}
