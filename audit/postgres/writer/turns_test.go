package writer

import (
	"slices"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
)

// committerAlone is a log whose groups a test fills itself, without a database.
func committerAlone(t *testing.T) *Log {
	l := &Log{queue: newQueue(10_000, 1<<40), closing: make(chan struct{}), ctx: t.Context()}
	l.writer = "w"
	return l
}

// waits queues events: c is one with a companion of that size, d a decision, e an end.
func (l *Log) waits(t *testing.T, events string, size int) {
	t.Helper()
	for n, kind := range events {
		e := audittest.Decision("deny", n)
		w := &waiter{event: e, size: 1, done: make(chan error, 1)}
		switch kind {
		case 'c':
			e.Kind = audit.KindWebhookReceived
			w.companion = &companion{size: size}
		case 'e':
			e.Kind = audit.KindTunnelClosed
		}
		e.Normalise()
		if full, _ := l.queue.put(w); full != "" {
			t.Fatalf("%s is full", full)
		}
	}
}

// nextGroup fills a group as run does, and returns its events in order.
func (l *Log) nextGroup() (events string) {
	g := newGroup(l.writer)
	if l.takeNext(g) {
		l.fill(g, groupRows)
	}
	l.accompanied = g.companions > 0
	for _, r := range g.rows {
		switch {
		case r.companion != nil:
			events += "c"
		case r.waiter.event.IsClosing():
			events += "e"
		default:
			events += "d"
		}
	}
	return events
}

// TestCompanionsOfAGroup: a group has a bounded number of companions and of their bytes, and
// fewer while decisions are made. A decision waits for one such group at most; deliveries
// get every second group.
func TestCompanionsOfAGroup(t *testing.T) {
	const many = "cccccccccccccccccccccccccccccccccccccccc"
	short := many[:groupCompanionsBeside]
	for name, c := range map[string]struct {
		size   int
		before []string // the events that are queued before each group
		want   []string
	}{
		"without decisions":        {1, []string{many, "", "", ""}, []string{many[:groupCompanions], many[:groupCompanions], many[:len(many)-2*groupCompanions], ""}},
		"by bytes":                 {groupBytes / 4, []string{many[:10], "", "", ""}, []string{"cccc", "cccc", "cc", ""}},
		"beside decisions":         {1, []string{many + "d", "dd", "d", "dd", "d"}, []string{many[:groupCompanions] + "d", "dd", short + "d", "dd", short + "d"}},
		"after decisions":          {1, []string{"d" + many, "", "d", ""}, []string{many[:groupCompanions] + "d", short, "d", short}},
		"ends share the group":     {1, []string{"cee", "cee", "ee"}, []string{"cee", "eec", "ee"}},
		"decisions fill no group":  {1, []string{"d", "d", "d"}, []string{"d", "d", "d"}},
		"an end beside a decision": {1, []string{"c", "cde", ""}, []string{"c", "de", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := committerAlone(t)
			var got []string
			for _, events := range c.before {
				l.waits(t, events, c.size)
				got = append(got, l.nextGroup())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("groups %q, want %q", got, c.want)
			}
		})
	}
}

// TestDecisionsWaitForOneGroup: among deliveries without end, no decision is in the second
// group with companions after it came. Without turns it is behind all of them.
func TestDecisionsWaitForOneGroup(t *testing.T) {
	l := committerAlone(t)
	for n := range 50 {
		l.waits(t, "cccccccccccccccccccc", 1)
		l.nextGroup()
		l.waits(t, "d", 1)
		if first, second := l.nextGroup(), l.nextGroup(); first != "d" && second != "d" {
			t.Fatalf("round %d: groups %q and %q", n, first, second)
		}
	}
	l.decided = time.Now().Add(-time.Hour)
	if got := l.nextGroup(); len(got) != groupCompanions {
		t.Errorf("without decisions a group has %q", got)
	}
}
