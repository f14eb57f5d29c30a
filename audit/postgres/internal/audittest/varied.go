package audittest

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/pgtest"
)

// SealMonth records decisions of a month, and an event that retention keeps, and seals
// them. A sealer with the clock of its caller seals them at any time.
func SealMonth(t testing.TB, l Recorder, s Sealer, first time.Time, decisions int64) {
	t.Helper()
	for n := range decisions {
		e := Decision([]string{"allow", "deny"}[n%2], int(n))
		e.Time = first.Add(time.Duration(n) * 22 * time.Hour)
		Record(t, l, e)
	}
	Record(t, l, &audit.Event{Time: first.Add(time.Hour), Kind: audit.KindAdmin, Action: "noted"})
	Seal(t, s)
}

// Parts opens the parts of a log for VariedLog.
type Parts struct {
	Log    func() Log
	Sealer func(l Log, key *audit.Signer, now func() time.Time) Sealer
}

// VariedLog fills a database with the events of several writers, of which some
// have ended, in several months, and seals them in pieces.
//
// One with a history has months of events that were sealed long ago.
func VariedLog(t testing.TB, db *pgtest.DB, open Parts, events int, history bool) *audit.Signer {
	t.Helper()
	key := NewKey(t, "")
	logs := []Log{open.Log(), open.Log(), open.Log()}
	now := time.Now
	s := open.Sealer(logs[0], key, func() time.Time { return now() })
	if history {
		Backdate(t, Connect(t, db.URL("")))
		// Two months that were sealed in their time, in their order.
		for n := range 2 {
			first := OldMonth().AddDate(0, n, 0)
			for i := range 20 + events%40 {
				e := Decision([]string{"allow", "deny"}[rand.IntN(2)], i)
				if i%9 == 8 {
					e = &audit.Event{Kind: audit.KindAdmin, Action: "noted"}
				}
				e.Time = first.Add(time.Duration(1+i) * 10 * time.Hour)
				Record(t, logs[0], e)
				if i%7 == 0 {
					now = func() time.Time { return first.Add(time.Duration(1+i) * 10 * time.Hour) }
					Seal(t, s)
				}
			}
			now = func() time.Time { return first.AddDate(0, 1, 0) }
			Seal(t, s)
		}
		now = time.Now
	}
	for n := range events {
		l := logs[rand.IntN(len(logs))]
		e := Decision([]string{"allow", "deny"}[rand.IntN(2)], n)
		if rand.IntN(3) == 0 {
			e.Time = e.Time.AddDate(0, -1-rand.IntN(2), 0)
		}
		end := EndOf(e, e.Time)
		Record(t, l, e)
		if rand.IntN(2) == 0 {
			Record(t, l, end)
		}
		if rand.IntN(20) == 0 {
			Seal(t, s)
		}
	}
	Close(t, logs[1])
	Close(t, logs[2])
	Seal(t, s)
	Seal(t, s)
	return key
}
