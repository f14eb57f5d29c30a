package reader

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/postgres/internal/audittest"
	"github.com/sallyport/sallyport/audit/postgres/internal/sealertest"
	"github.com/sallyport/sallyport/audit/postgres/internal/writertest"
	"github.com/sallyport/sallyport/internal/database"
)

// TestStats holds every count against a loop over the events.
func TestStats(t *testing.T) {
	t.Parallel()
	db := audittest.Migrated(t)
	l := writertest.Open(t, db.URL(database.Writer), nil)
	s := sealertest.Open(t, db.URL(database.Writer), l, sealertest.WithKey(audittest.NewKey(t, "log.example/a")))
	r := rand.New(rand.NewPCG(3, 4))
	begin := time.Date(2026, 11, 18, 0, 0, 0, 0, time.UTC)
	until := begin.Add(48 * time.Hour)
	want := &Totals{Since: begin, Until: until}
	add := func(all []*Counts, e *audit.Event) {
		for _, t := range all {
			switch {
			case e.Kind != audit.KindDecision:
				t.BytesSent, t.BytesReceived = t.BytesSent+e.BytesSent, t.BytesReceived+e.BytesReceived
			case e.Verdict == "deny":
				t.Denied++
			case e.WouldDeny:
				t.WouldDeny++
			default:
				t.Allowed++
			}
		}
	}
	// count counts an event; one that ends a decision has the fields of it.
	count := func(e *audit.Event) {
		if !e.Time.Before(until) {
			return
		}
		want.Events++
		host, origin := find(&want.Destinations, func(d *Destination) bool { return d.Host == e.Host && d.Port == int64(e.Port) }), find(&want.Repositories, func(o *Origin) bool {
			return o.RepositoryUUID == e.RepositoryUUID && o.DeploymentUUID == e.DeploymentUUID
		})
		host.Host, host.Port = e.Host, int64(e.Port)
		origin.Repository, origin.RepositoryUUID, origin.Deployment, origin.DeploymentUUID = e.Repository, e.RepositoryUUID, e.Deployment, e.DeploymentUUID
		day := find(&want.Days, func(d *Day) bool { return d.Day == e.Time.Format(time.DateOnly) })
		day.Day, day.Events = e.Time.Format(time.DateOnly), day.Events+1
		probe := e.CredentialKind == "self_test"
		if probe {
			add([]*Counts{&want.SelfTest}, e)
		} else {
			add([]*Counts{&want.Decided, &host.Counts, &origin.Counts, &day.Counts}, e)
		}
		kind := find(&want.Kinds, func(k *KindCount) bool { return k.Kind == string(e.Kind) })
		kind.Kind, kind.Events = string(e.Kind), kind.Events+1
		if e.Kind == audit.KindDecision && !probe {
			passed := e.WouldDeny
			reason := find(&want.Reasons, func(c *ReasonCount) bool {
				return c.Reason == e.Reason && c.Verdict == e.Verdict && c.WouldDeny == passed
			})
			*reason = ReasonCount{e.Verdict, e.Reason, passed, reason.Decisions + 1}
		}
	}
	var last audit.Event
	for n := range 400 {
		e := varied(r, begin.Add(time.Duration(r.IntN(60))*time.Hour))
		if e.Kind == audit.KindTunnelClosed && n > 0 { // it is counted where its decision is
			counted := last
			counted.Time, counted.Kind, counted.BytesSent, counted.BytesReceived = e.Time, e.Kind, int64(r.IntN(100)), int64(r.IntN(100))
			audittest.Record(t, l, &audit.Event{Time: e.Time, Kind: e.Kind, DecisionID: last.DecisionID, BytesSent: counted.BytesSent, BytesReceived: counted.BytesReceived})
			count(&counted)
			continue
		}
		e.Kind = audit.KindDecision
		if e.Deployment == "" {
			e.DeploymentUUID = ""
		}
		if r.IntN(5) == 0 {
			e.CredentialKind = "self_test"
		}
		audittest.Record(t, l, e)
		count(e)
		last = *e
	}
	for n := range 60 {
		e := varied(r, begin.Add(time.Duration(r.IntN(60))*time.Hour))
		e.Kind, e.Verdict, e.CloseReason = audit.KindWouldClose, "", []string{"hello_encrypted", "hello_missing"}[r.IntN(2)]
		if n%5 == 0 {
			e.CredentialKind = "self_test"
		}
		audittest.Record(t, l, e)
		if !e.Time.Before(until) {
			continue
		}
		want.Events++
		find(&want.Days, func(d *Day) bool { return d.Day == e.Time.Format(time.DateOnly) }).Events++
		kind := find(&want.Kinds, func(k *KindCount) bool { return k.Kind == string(e.Kind) })
		kind.Kind, kind.Events = string(e.Kind), kind.Events+1
		if e.CredentialKind == "self_test" {
			continue
		}
		want.WouldClose++
		c := find(&want.Continued, func(c *Continued) bool {
			return c.RepositoryUUID == e.RepositoryUUID && c.Host == e.Host && c.Port == int64(e.Port) && c.CloseReason == e.CloseReason
		})
		*c = Continued{e.RepositoryUUID, e.Repository, e.Host, int64(e.Port), e.CloseReason, c.Tunnels + 1}
	}
	for range 3 {
		audittest.Seal(t, s)
	}
	audittest.Record(t, l, audittest.Decision("deny", 1)) // not sealed, and of another time
	want.Destinations = slices.DeleteFunc(want.Destinations, func(d Destination) bool { return d.Counts == (Counts{}) })
	want.Repositories = slices.DeleteFunc(want.Repositories, func(o Origin) bool { return o.Counts == (Counts{}) })
	want.sort(5)
	got, err := askerFor(t, db.URL(database.Auditor)).Totals(t.Context(), begin, until, 5)
	if err != nil {
		t.Fatal(err)
	}
	single := askerFor(t, db.URL(database.Auditor))
	single.alone = true
	if alone, err := single.Totals(t.Context(), begin, until, 5); err != nil || !cmp.Equal(alone, got) {
		t.Errorf("one connection counts otherwise than two, %v:\n%s", err, cmp.Diff(got, alone))
	}
	if len(got.Writers) != 1 || got.Writers[0].Missing != 0 || got.Writers[0].Events != got.Events || got.Writers[0].EndedAt != nil || got.Writers[0].StartedAt == nil {
		t.Errorf("writers: %+v", got.Writers)
	}
	if got.Sealing.Sealed != 462 || got.Sealing.Unsealed != 1 || got.Sealing.Checkpoint == nil {
		t.Errorf("sealing: %+v", got.Sealing)
	}
	if !slices.ContainsFunc(got.Tables, func(t Table) bool { return t.Name == "events_2026_11" && t.Bytes > 100_000 }) {
		t.Errorf("tables: %v", got.Tables)
	}
	got.Writers, got.Sealing, got.Tables = nil, Sealing{}, nil
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("want (-) and got (+):\n%s", d)
	}
}

// find is the element that is meant, or a new one.
func find[T any](list *[]T, is func(*T) bool) *T {
	for i := range *list {
		if is(&(*list)[i]) {
			return &(*list)[i]
		}
	}
	*list = append(*list, *new(T))
	return &(*list)[len(*list)-1]
}
