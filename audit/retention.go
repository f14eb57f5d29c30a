package audit

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// MinAge is how old events are at least that retention may take, by the signed
// times of the checkpoints that covered them first and that covers its own
// event. The database demands a day more, so that a difference between
// clocks is not a finding.
const MinAge = 365 * 24 * time.Hour

// DefaultKeepDays is for how many days events are kept by default.
const DefaultKeepDays = 400

// MinKeepDays is the least that the database agrees to.
const MinKeepDays = 366

// Stays reports whether retention leaves an event where it is: it is the log's
// own account of itself. The database decides by its function
// audit.is_exempt_from_retention, which has the same list. A kind is never removed from
// this list: what retention left of old months is counted by it.
func Stays(kind Kind, writer string) bool {
	switch kind {
	case KindWriterStarted, KindWriterEnded, KindWriterLost, KindSigningKey, KindLogForked, KindPolicyLoaded, KindPolicyRejected, KindRepositoryPolicyRejected, KindPolicyApproval, KindAdmin,
		KindNameReassigned, KindReconciled, KindDeploymentUnobserved, KindSelfTest, KindSchemaAttested, KindAccessAttested, KindEventsLost, KindGapDeclared:
		return true
	}
	return writer == DatabaseWriter
}

// A Retention is the event of the removal of a month's events.
type Retention struct {
	Index    int64  // its own leaf
	Sequence int64  // its number, of the writer [DatabaseWriter]
	Month    string // YYYY-MM
	Events   int64  // how many it reports as removed
	Found    int64  // how many leaves it accounts for that have no event
	Login    string // who asked for it
	Digest   string // over the leaves of the removed events, in their order
	stayed   int64  // how many it reports as kept
	leaves   []span
	at       time.Time // of the first checkpoint that covers it; zero: none does
	refused  string    // why it accounts for nothing; empty: it does
}

// span is a range of leaves, both ends included.
type span struct{ first, last int64 }

// RetentionOf reads the record of an event of the kind retention. It is false
// where that is not written as the database writes it.
func RetentionOf(record []byte) (Retention, bool) {
	var recordFields struct {
		Writer     string            `json:"writer"`
		Sequence   int64             `json:"writer_sequence"`
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &recordFields) != nil || recordFields.Writer != DatabaseWriter {
		return Retention{}, false
	}
	a := recordFields.Attributes
	r := Retention{Sequence: recordFields.Sequence, Month: a["month"], Login: a["login"], Digest: a["digest"]}
	var err error
	if r.Events, err = strconv.ParseInt(a["events"], 10, 64); err != nil {
		return Retention{}, false
	}
	if r.stayed, err = strconv.ParseInt(cmp.Or(a["stayed"], "0"), 10, 64); err != nil {
		return Retention{}, false
	}
	for n := 1; ; n++ {
		name := "leaves"
		if n > 1 {
			name += "_" + strconv.Itoa(n)
		}
		text, there := a[name]
		if !there {
			break
		}
		for piece := range strings.SplitSeq(text, ",") {
			s, err := parseSpan(piece)
			if err != nil || len(r.leaves) > 0 && s.first <= r.leaves[len(r.leaves)-1].last {
				return Retention{}, false
			}
			r.leaves = append(r.leaves, s)
		}
	}
	return r, len(r.leaves) > 0
}

func parseSpan(text string) (span, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 62)
	if err != nil {
		return span{}, err
	}
	b, err := strconv.ParseUint(last, 10, 62)
	if err != nil || b < a {
		return span{}, fmt.Errorf("%q is not a range", text)
	}
	return span{int64(a), int64(b)}, nil
}

// missingRange is a run of leaves whose events are not there, all of them first covered
// by one checkpoint.
type missingRange struct {
	span
	writer   string
	sequence int64
	sealed   time.Time // by the latest of the signed times up to that checkpoint; zero: none covers it
}

// maxMissingRanges bounds what is remembered of leaves without events. What is beyond it
// counts as damage at once: retention takes months, and leaves no such holes.
const maxMissingRanges = 1 << 20

// expiry holds leaves without events against the retention events that account
// for them. Such an event comes after the leaves, so that what is missing is
// known at the end only.
type expiry struct {
	missingRanges []missingRange
	covered       int    // of these, up to here a checkpoint is known
	stays         []span // leaves of events that retention does not take, and that are there
	retentions    []Retention
	waiting       int // of these, from here on no checkpoint is known
	hours         []hour
	latest        time.Time // of the signed times
	holds         map[int64]heldMonths
}

// heldMonths are the months that a hold keeps, as YYYY-MM, both included.
type heldMonths struct{ first, last string }

// hold takes a sealed event of the kinds hold_set and hold_lifted, of the
// database's. Its events are sealed in the order in which they happened.
func (x *expiry) hold(kind Kind, sequence int64, record []byte) {
	var recordFields struct {
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &recordFields) != nil {
		return
	}
	a := recordFields.Attributes
	if kind == KindHoldLifted {
		if number, err := strconv.ParseInt(a["hold"], 10, 64); err == nil {
			delete(x.holds, number)
		}
		return
	}
	if x.holds == nil {
		x.holds = make(map[int64]heldMonths)
	}
	month := func(day string) string { return day[:min(len(day), len("2006-01"))] }
	x.holds[sequence] = heldMonths{month(a["first_day"]), month(a["last_day"])}
}

// hour is the last checkpoint of an hour of signed times.
type hour struct {
	size int64
	time time.Time
}

// there notes a leaf whose event is there and stays.
func (x *expiry) there(index int64) {
	if n := len(x.stays); n > 0 && x.stays[n-1].last+1 == index {
		x.stays[n-1].last = index
		return
	}
	x.stays = append(x.stays, span{index, index})
}

// left is how many of these are among the leaves of a retention.
func (x *expiry) left(r *Retention) (count int64) {
	for _, s := range r.leaves {
		from, _ := slices.BinarySearchFunc(x.stays, s.first, func(t span, first int64) int { return cmp.Compare(t.last, first) })
		for _, t := range x.stays[from:] {
			if t.first > s.last {
				break
			}
			count += min(t.last, s.last) - max(t.first, s.first) + 1
		}
	}
	return count
}

// missing notes a leaf without its event. It is false where nothing accounts for
// that: no more is remembered, or it is an event that retention never takes.
func (x *expiry) missing(e *Entry) bool {
	if e.Writer == DatabaseWriter {
		x.there(e.Index) // found already
		return false
	}
	if n := len(x.missingRanges); n > x.covered {
		if last := &x.missingRanges[n-1]; last.last+1 == e.Index {
			last.last = e.Index
			return true
		}
	}
	if len(x.missingRanges) >= maxMissingRanges {
		return false
	}
	x.missingRanges = append(x.missingRanges, missingRange{span: span{e.Index, e.Index}, writer: e.Writer, sequence: e.Sequence})
	return true
}

// retention takes a sealed event of that kind.
func (x *expiry) retention(record []byte, index int64) {
	r, ok := RetentionOf(record)
	r.Index = index
	if !ok {
		r.refused = "it is not written as the database writes it"
	}
	for number, h := range x.holds {
		if ok && h.first <= r.Month && r.Month <= h.last {
			r.refused = fmt.Sprintf("hold %d was in force, which keeps the month %s", number, r.Month)
		}
	}
	x.retentions = append(x.retentions, r)
}

// checkpoint takes one that holds, signed by the log's key.
func (x *expiry) checkpoint(c Checkpoint) {
	if c.Time.After(x.latest) {
		x.latest = c.Time
	}
	x.cover()
	for ; x.waiting < len(x.retentions); x.waiting++ {
		x.retentions[x.waiting].at = c.Time
	}
	at := hour{c.Size, x.latest}
	if n := len(x.hours); n > 0 && x.hours[n-1].time.Truncate(time.Hour).Equal(x.latest.Truncate(time.Hour)) {
		x.hours[n-1] = at
		return
	}
	x.hours = append(x.hours, at)
}

// cover gives the latest signed time to what is missing since the checkpoint
// before. What was sealed within one hour is one run, as of its end: there are
// checkpoints every few seconds, and months of them. The database demands a day
// more than is needed here.
func (x *expiry) cover() {
	if x.covered == len(x.missingRanges) {
		return
	}
	if x.covered > 0 {
		last, next := &x.missingRanges[x.covered-1], &x.missingRanges[x.covered]
		if last.last+1 == next.first && !last.sealed.IsZero() && last.sealed.Truncate(time.Hour).Equal(x.latest.Truncate(time.Hour)) {
			last.last, last.sealed = next.last, x.latest
			x.missingRanges = slices.Delete(x.missingRanges, x.covered, x.covered+1)
		}
	}
	for ; x.covered < len(x.missingRanges); x.covered++ {
		x.missingRanges[x.covered].sealed = x.latest
	}
}

// sealedBy is when a leaf was sealed, at most an hour too late; zero: it was not.
func (x *expiry) sealedBy(index int64) time.Time {
	i, _ := slices.BinarySearchFunc(x.hours, index, func(h hour, index int64) int { return cmp.Compare(h.size, index+1) })
	if i == len(x.hours) {
		return time.Time{}
	}
	return x.hours[i].time
}

// old reports whether what was sealed at one time was old enough at another.
func old(sealed, at time.Time, slack time.Duration) bool {
	return !sealed.IsZero() && !at.IsZero() && at.Sub(sealed)+slack >= MinAge
}

// judge returns why a retention event accounts for nothing.
func (x *expiry) judge(r *Retention) string {
	last := int64(-1)
	if n := len(r.leaves); n > 0 {
		last = r.leaves[n-1].last
	}
	switch {
	case r.refused != "":
		return r.refused
	case r.at.IsZero():
		return "no checkpoint that holds covers it"
	case last >= r.Index:
		return fmt.Sprintf("it names leaf %d, which was not there yet", last)
	case !old(x.sealedBy(last), r.at, time.Hour):
		return fmt.Sprintf("it names leaf %d, which was sealed less than %d days before", last, int(MinAge.Hours()/24))
	}
	return ""
}

// settle returns what no retention accounts for, and the retention events that
// account for nothing.
func (x *expiry) settle() (missing []missingRange, invalid []Retention) {
	type claim struct {
		span
		of int
	}
	var claims []claim
	for i := range x.retentions {
		r := &x.retentions[i]
		if r.refused = x.judge(r); r.refused != "" {
			invalid = append(invalid, *r)
			continue
		}
		for _, s := range r.leaves {
			claims = append(claims, claim{s, i})
		}
	}
	slices.SortFunc(claims, func(a, b claim) int { return cmp.Compare(a.first, b.first) })
	// Months do not share leaves, so that claims that overlap are from the same
	// month taken again: the first that fits is as good as any.
	next := 0
	for _, g := range x.missingRanges {
		for at := g.first; at <= g.last; {
			for next < len(claims) && claims[next].last < at {
				next++
			}
			end := g.last
			if next == len(claims) || claims[next].first > at {
				if next < len(claims) {
					end = min(end, claims[next].first-1)
				}
				missing = append(missing, g.from(at, end))
				at = end + 1
				continue
			}
			end = min(end, claims[next].last)
			r := &x.retentions[claims[next].of]
			if old(g.sealed, r.at, 0) {
				r.Found += end - at + 1
			} else {
				missing = append(missing, g.from(at, end))
			}
			at = end + 1
		}
	}
	return missing, invalid
}

// from is a part of what is gone. Of which writer its first leaf is, is known
// for the whole alone.
func (g missingRange) from(first, last int64) missingRange {
	if first != g.first {
		g.writer, g.sequence = "", 0
	}
	g.span = span{first, last}
	return g
}
