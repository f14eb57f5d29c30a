package postgres

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

func minutes(n int) time.Time { return noon.Add(time.Duration(n) * time.Minute) }

func repository(uuid, name string, at time.Time) identity.KnownName {
	slug, _, _ := strings.Cut(name, "/")
	return identity.KnownName{Kind: identity.NameOfRepository, WorkspaceUUID: acme, RepositoryUUID: uuid,
		WorkspaceSlug: slug, FullName: name, Project: "PAY", FetchedAt: at}
}

func deployment(uuid, repository, name, slug string, at time.Time) identity.KnownName {
	return identity.KnownName{Kind: identity.NameOfDeployment, WorkspaceUUID: acme, RepositoryUUID: repository, DeploymentUUID: uuid,
		Name: name, Slug: slug, Type: "production", FetchedAt: at}
}

func (h *env) save(t testing.TB, names ...identity.KnownName) {
	t.Helper()
	for _, n := range names {
		if err := h.SaveName(t.Context(), n); err != nil {
			t.Fatal(err)
		}
	}
	h.written(t)
	if s := h.Status(); s.NamesLost != 0 || s.NamesError != nil {
		t.Fatalf("%d lost, %v", s.NamesLost, s.NamesError)
	}
}

// history prints the rows of the repositories: last digit, name, from, to.
func history(t testing.TB, conn *pgx.Conn) []string {
	t.Helper()
	return pgtest.Texts(t, conn, `SELECT right(repository_uuid::text, 1) || ' ' || repository || ' '
		|| round(extract(epoch FROM valid_from - $1) / 60) || '-' || coalesce(round(extract(epoch FROM valid_to - $1) / 60)::text, '')
		FROM identity.repositories ORDER BY valid_from, repository_uuid`, noon)
}

func TestRenamesKeepHistory(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	eu := uuidOf(7)
	h.save(t, repository(payments, "acme/payments", minutes(0)), deployment(eu, payments, "Production EU", "production-eu", minutes(0)))
	h.save(t, repository(payments, "acme/payments", minutes(5)), repository(payments, "acme/payments", minutes(60)))
	h.save(t, repository(payments, "acme/pay", minutes(90)), deployment(eu, payments, "Production Europe", "production-europe", minutes(91)))
	h.save(t, repository(payments, "acme/late", minutes(30))) // older than what is known: another instance was slow
	h.save(t, repository(payments, "acme/pay", minutes(80)))
	if got, want := history(t, conn), []string{"1 acme/payments 0-90", "1 acme/pay 90-"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if at := pgtest.Value[time.Time](t, conn, "SELECT fetched_at FROM identity.repositories WHERE valid_to IS NOT NULL"); !at.Equal(database.Timestamp(minutes(60))) {
		t.Errorf("last fetched at %v", at)
	}
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.workspaces WHERE workspace = 'acme' AND workspace_uuid = $1", acme); n != 1 {
		t.Errorf("%d workspaces", n)
	}
	h.stop()

	again := instance(t, db.URL(database.Writer), 0)
	names, err := again.LoadNames(t.Context(), acme)
	if err != nil {
		t.Fatal(err)
	}
	want := []identity.KnownName{repository(payments, "acme/pay", database.Timestamp(minutes(90))),
		deployment(eu, payments, "Production Europe", "production-europe", database.Timestamp(minutes(91)))}
	if len(names) != 2 || !names[0].FetchedAt.Equal(want[0].FetchedAt) || !names[1].FetchedAt.Equal(want[1].FetchedAt) {
		t.Fatalf("%+v", names)
	}
	for i := range names {
		names[i].FetchedAt = want[i].FetchedAt
		if names[i] != want[i] {
			t.Errorf("%+v, want %+v", names[i], want[i])
		}
	}
	if other, err := again.LoadNames(t.Context(), initech); err != nil || len(other) != 0 {
		t.Errorf("%+v, %v", other, err)
	}
	if len(h.moved())+len(again.moved()) > 0 {
		t.Errorf("moves: %+v %+v", h.moved(), again.moved())
	}
}

// Several responses for one UUID in one group are applied in order.
func TestResponsesInOneGroup(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	h.save(t, repository(payments, "acme/a", minutes(0)), repository(payments, "acme/b", minutes(20)), repository(payments, "acme/a", minutes(40)),
		repository(payments, "acme/a", minutes(60)), repository(billing, "acme/b", minutes(50)))
	want := []string{"1 acme/a 0-20", "1 acme/b 20-40", "1 acme/a 40-", "2 acme/b 50-"}
	if got := history(t, conn); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if reassignments := h.moved(); len(reassignments) != 1 || reassignments[0].FromUUID != payments || reassignments[0].ToUUID != billing || reassignments[0].Name != "acme/b" {
		t.Errorf("%+v", reassignments)
	}
}

// A repository that is deleted and created again under its old name, or that gets a name
// that another had long ago, is reported and can be queried.
func TestNameMovesToAnotherUUID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		saves []identity.KnownName
		want  string // kind name from to
	}{
		{"deleted and made again", []identity.KnownName{
			repository(payments, "acme/payments", minutes(0)), repository(billing, "acme/payments", minutes(60))},
			"repository acme/payments 1 2"},
		{"renamed and taken over later", []identity.KnownName{
			repository(payments, "acme/payments", minutes(0)), repository(payments, "acme/old", minutes(30)), repository(billing, "acme/payments", minutes(60))},
			"repository acme/payments 1 2"},
		{"back again", []identity.KnownName{
			repository(payments, "acme/a", minutes(0)), repository(payments, "acme/b", minutes(30)), repository(payments, "acme/a", minutes(60))},
			""},
		{"there and back by another", []identity.KnownName{
			repository(payments, "acme/a", minutes(0)), repository(billing, "acme/a", minutes(30)), repository(payments, "acme/a", minutes(60))},
			"repository acme/a 1 2, repository acme/a 2 1"},
		{"another project", []identity.KnownName{
			repository(payments, "acme/a", minutes(0)), func() identity.KnownName { n := repository(payments, "acme/a", minutes(30)); n.Project = "X"; return n }()},
			""},
		{"the environment", []identity.KnownName{
			deployment(uuidOf(1), payments, "Production", "production", minutes(0)), deployment(uuidOf(2), payments, "Production", "production", minutes(60))},
			"deployment Production 1 2"},
		{"the environment by its slug", []identity.KnownName{
			deployment(uuidOf(1), payments, "Production EU", "production-eu", minutes(0)), deployment(uuidOf(2), payments, "production eu", "production-eu", minutes(60))},
			"deployment production eu 1 2"},
		{"the same environment name elsewhere", []identity.KnownName{
			deployment(uuidOf(1), payments, "Production", "production", minutes(0)), deployment(uuidOf(2), billing, "Production", "production", minutes(60))},
			""},
		{"the workspace", []identity.KnownName{
			repository(payments, "acme/a", minutes(0)), func() identity.KnownName {
				n := repository(billing, "acme/b", minutes(60))
				n.WorkspaceUUID = initech
				return n
			}()},
			"workspace acme d 0"},
		{"an older answer", []identity.KnownName{
			repository(payments, "acme/a", minutes(60)), repository(billing, "acme/a", minutes(0))},
			""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			db := migrated(t)
			h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(database.Auditor))
			for _, n := range tt.saves {
				h.save(t, n)
			}
			var told []string
			for _, m := range h.moved() {
				told = append(told, fmt.Sprintf("%s %s %s %s", m.Kind, m.Name, m.FromUUID[35:], m.ToUUID[35:]))
			}
			seen := pgtest.Texts(t, conn, `SELECT kind || ' ' || name || ' ' || right(from_uuid::text, 1) || ' ' || right(to_uuid::text, 1) FROM identity.reassigned_names ORDER BY reassigned_at`)
			if got := strings.Join(told, ", "); got != tt.want {
				t.Errorf("told of %q, want %q", got, tt.want)
			}
			if got := strings.Join(seen, ", "); got != tt.want {
				t.Errorf("the view shows %q, want %q", got, tt.want)
			}
		})
	}
}

// A commit whose response was lost is written again: it changes nothing, and its
// reassignments are still reported.
func TestWritingNamesAgain(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	h.save(t, repository(payments, "acme/a", minutes(0)))
	batch, err := observe(repository(billing, "acme/a", minutes(30)))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := h.writeNames(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := history(t, conn), []string{"1 acme/a 0-30", "2 acme/a 30-"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := len(h.moved()); n != 2 {
		t.Errorf("told %d times", n)
	}
}

func TestNameFromTheFuture(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	h.save(t, repository(payments, "acme/a", time.Now().Add(100*time.Hour)))
	h.save(t, repository(payments, "acme/b", time.Now().Add(100*time.Hour)))
	if pgtest.Value[bool](t, conn, "SELECT bool_or(fetched_at > clock_timestamp()) FROM identity.repositories") {
		t.Error("it was fetched in the future")
	}
	if name := pgtest.Value[string](t, conn, "SELECT repository FROM identity.repositories WHERE valid_to IS NULL"); name != "acme/b" {
		t.Errorf("it is called %s", name)
	}
}

// What the database would refuse does not get there, and what gets there all
// the same does not hold up the rest.
func TestNamesThatCannotBe(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h, conn := instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	good := repository(payments, "acme/a", minutes(0))
	for name, change := range map[string]func(*identity.KnownName){
		"kind":    func(n *identity.KnownName) { n.Kind = "person" },
		"braces":  func(n *identity.KnownName) { n.RepositoryUUID = "{" + payments + "}" },
		"capital": func(n *identity.KnownName) { n.WorkspaceUUID = strings.ToUpper(acme) },
		"NUL":     func(n *identity.KnownName) { n.FullName = "acme/\x00" },
		"UTF-8":   func(n *identity.KnownName) { n.Project = "\xff" },
		"long":    func(n *identity.KnownName) { n.FullName = "acme/" + strings.Repeat("x", 1000) },
		"empty":   func(n *identity.KnownName) { n.FullName = "" },
		"never":   func(n *identity.KnownName) { n.FetchedAt = time.Time{} },
	} {
		n := good
		change(&n)
		if err := h.SaveName(t.Context(), n); err == nil {
			t.Errorf("%s: saved", name)
		}
	}
	bad, err := observe(good)
	if err != nil {
		t.Fatal(err)
	}
	bad[0].values[3] = "acme/\x00"
	for i := range 20 {
		h.names.add(nameKey{uuid: uuidOf(i)}, observed{identity.NameOfRepository, []string{uuidOf(i), acme, "acme", fmt.Sprintf("acme/r%d", i), ""}, database.Timestamp(noon)}, func(*observed) bool { return false })
		if i == 11 {
			h.names.add(nameKey{}, bad[0], func(*observed) bool { return false })
		}
	}
	h.written(t)
	if n, lost := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.repositories"), h.Status().NamesLost; n != 20 || lost != 1 {
		t.Errorf("%d are there, %d lost", n, lost)
	}
}

// Two instances hear the same of Bitbucket, in different order, and each more
// than once; the history is that of one who heard everything in order.
func TestInstancesAgree(t *testing.T) {
	pgtest.CheckLeaks(t)
	db := migrated(t)
	one, two, conn := instance(t, db.URL(database.Writer), 0), instance(t, db.URL(database.Writer), 0), pgtest.Connect(t, db.URL(""))
	const repositories, renames = 40, 12
	var all sync.WaitGroup
	for _, h := range []*env{one, two} {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, 2))
			for step := range renames {
				var group []observed
				for i := range repositories {
					// A name goes round among the repositories of one group of four.
					name := fmt.Sprintf("acme/g%d-%d", i/4, (i+step)%4)
					o, err := observe(repository(uuidOf(i), name, minutes(step*30).Add(time.Duration(i)*time.Millisecond)))
					if err != nil {
						t.Error(err)
						return
					}
					group = append(group, o...)
				}
				r.Shuffle(len(group), func(i, j int) { group[i], group[j] = group[j], group[i] })
				for chunk := range slices.Chunk(group, 17) {
					if err := h.writeNames(t.Context(), chunk); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	all.Wait()
	// Whatever the order of writing was: never two at once.
	for _, overlap := range pgtest.Texts(t, conn, `
		SELECT a.repository || ' of ' || a.repository_uuid || ' and ' || b.repository_uuid FROM identity.repositories a
		JOIN identity.repositories b ON (b.repository = a.repository OR b.repository_uuid = a.repository_uuid)
		 AND (b.repository_uuid, b.valid_from) > (a.repository_uuid, a.valid_from)
		 AND tstzrange(a.valid_from, a.valid_to) && tstzrange(b.valid_from, b.valid_to)`) {
		t.Errorf("overlap: %s", overlap)
	}
	if n := pgtest.Value[int](t, conn, "SELECT count(*) FROM identity.repositories WHERE valid_to IS NULL"); n == 0 || n > repositories {
		t.Errorf("%d are valid now", n)
	}
	// The latest answer of each is the truth of each, once it is heard again.
	var last []observed
	for i := range repositories {
		o, _ := observe(repository(uuidOf(i), fmt.Sprintf("acme/g%d-%d", i/4, (i+renames)%4), minutes(renames*30)))
		last = append(last, o...)
	}
	for _, h := range []*env{one, two} {
		if err := h.writeNames(t.Context(), last); err != nil {
			t.Fatal(err)
		}
	}
	for i := range repositories {
		want := fmt.Sprintf("acme/g%d-%d", i/4, (i+renames)%4)
		if got := pgtest.Value[string](t, conn, "SELECT repository FROM identity.repositories WHERE valid_to IS NULL AND repository_uuid = $1", uuidOf(i)); got != want {
			t.Errorf("%d is called %s, want %s", i, got, want)
		}
	}
}

// The database is unavailable and recovers: no caller waits, and no name within the
// bound is lost.
func TestNamesOverARestart(t *testing.T) {
	pgtest.CheckLeaks(t)
	server, db := pgtest.StartFrom(t, pgtest.Options{}, "sallyport", migrate)
	h := instance(t, db.URL(database.Writer), 0)
	h.save(t, repository(payments, "acme/a", minutes(0)))
	server.Kill(t)
	for i := range 700 {
		if err := h.SaveName(t.Context(), repository(uuidOf(i), fmt.Sprintf("acme/r%d", i), minutes(1))); err != nil {
			t.Fatal(err)
		}
	}
	pgtest.Eventually(t, "an error", func() bool { return h.Status().NamesError != nil })
	server.Restart(t)
	h.written(t)
	if s := h.Status(); s.NamesLost != 0 || s.NamesError != nil {
		t.Errorf("%d lost, %v", s.NamesLost, s.NamesError)
	}
	if n := pgtest.Value[int](t, pgtest.Connect(t, db.URL("")), "SELECT count(*) FROM identity.repositories"); n != 701 {
		t.Errorf("%d are there", n)
	}
}

// What waits is written at the end.
func TestNamesAreWrittenAtTheEnd(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), 0)
	for i := range 100 {
		if err := h.SaveName(t.Context(), repository(uuidOf(i), fmt.Sprintf("acme/r%d", i), minutes(1))); err != nil {
			t.Fatal(err)
		}
	}
	h.stop()
	if n := pgtest.Value[int](t, pgtest.Connect(t, db.URL("")), "SELECT count(*) FROM identity.repositories"); n != 100 {
		t.Errorf("%d are there", n)
	}
}

func TestNamesAreBounded(t *testing.T) {
	t.Parallel()
	b := newBacklog[int, int]("numbers", 3, 2, 0, nil, nil)
	never := func(*int) bool { return false }
	for i, want := range []bool{true, true, true, false} {
		if got := b.add(i, i, never); got != want {
			t.Errorf("%d: %v", i, got)
		}
	}
	if !b.add(1, 1, func(*int) bool { return true }) {
		t.Error("what merges needs no room")
	}
	b.dequeue()
	if b.add(9, 9, never) {
		t.Error("what is being written takes room")
	}
	if waiting, lost, _ := b.status(); waiting != 3 || lost != 2 {
		t.Errorf("%d wait, %d lost", waiting, lost)
	}
}

// History cannot be re-written by the server, nor, by accident, by the owner.
func TestHistoryIsNotRewritten(t *testing.T) {
	t.Parallel()
	db := migrated(t)
	h := instance(t, db.URL(database.Writer), 0)
	h.save(t, repository(payments, "acme/a", minutes(0)), deployment(uuidOf(1), payments, "P", "p", minutes(0)))
	h.save(t, repository(payments, "acme/b", minutes(1)))
	for _, statement := range []string{
		"UPDATE identity.repositories SET repository = 'acme/x'",
		"UPDATE identity.repositories SET valid_from = valid_from - interval '1 day'",
		"DELETE FROM identity.repositories",
		"TRUNCATE identity.repositories",
		"UPDATE identity.workspaces SET workspace = 'x'",
		"UPDATE identity.deployments SET deployment = 'x'",
		"UPDATE identity.repositories SET valid_to = NULL WHERE valid_to IS NOT NULL",
		"UPDATE identity.repositories SET fetched_at = valid_from WHERE valid_to IS NOT NULL",
	} {
		conn := pgtest.Connect(t, db.URL(database.Writer))
		if _, err := conn.Exec(t.Context(), statement); pgtest.SQLState(err) != "42501" && pgtest.SQLState(err) != "23001" {
			t.Errorf("writer: %s: %v", statement, err)
		}
		admin := pgtest.Connect(t, db.URL(""))
		pgtest.Exec(t, admin, "SET ROLE sallyport_owner")
		if _, err := admin.Exec(t.Context(), statement); pgtest.SQLState(err) != "23001" {
			t.Errorf("owner: %s: %v", statement, err)
		}
	}
	// Without the triggers the same goes through: the triggers are needed.
	admin := pgtest.Connect(t, db.URL(""))
	pgtest.Exec(t, admin, "ALTER TABLE identity.repositories DISABLE TRIGGER ALL")
	pgtest.Exec(t, admin, "UPDATE identity.repositories SET fetched_at = valid_from WHERE valid_to IS NOT NULL")
}

func BenchmarkWriteNamesThatAreKnown(b *testing.B) {
	db := migrated(b)
	s, err := Open(b.Context(), Config{URL: db.URL(database.Writer)})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	var group []observed
	for i := range 500 {
		o, _ := observe(repository(uuidOf(i), fmt.Sprintf("acme/r%d", i), minutes(0)))
		group = append(group, o[0])
	}
	for b.Loop() {
		if err := s.writeNames(b.Context(), group); err != nil {
			b.Fatal(err)
		}
	}
}
