package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/identity/bitbucket"
	identitypg "github.com/sallyport/sallyport/identity/postgres"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/bitbuckettest"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/pgtest"
	reconcilebb "github.com/sallyport/sallyport/reconcile/bitbucket"
	reconcilepg "github.com/sallyport/sallyport/reconcile/postgres"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func migrate(ctx context.Context, url string) error {
	_, _, err := database.Migrate(ctx, url, nil)
	return err
}

// env is an emulated Bitbucket, a real log and a real store, on one clock that
// the test moves.
type env struct {
	*Reconciler
	t        testing.TB
	server   *bitbuckettest.Server
	acme     *bitbuckettest.Workspace
	payments *bitbuckettest.Repository
	eu       *bitbuckettest.Environment
	api      *flaky
	store    *identitypg.Store
	log      *auditwriter.Log
	conn     *pgx.Conn // as the superuser
	db       *pgtest.DB

	mu  sync.Mutex
	now time.Time
}

// flaky is the real reader, with faults.
type flaky struct {
	API
	fail  func(what, repository string) error
	pages int
	after func(repository string) // called when a page was read
}

func (f *flaky) Repositories(ctx context.Context) ([]identity.KnownName, error) {
	if err := f.wrong("repositories", ""); err != nil {
		return nil, err
	}
	return f.API.Repositories(ctx)
}

func (f *flaky) Page(ctx context.Context, repository, next string) (identity.DeploymentPage, error) {
	f.pages++
	if err := f.wrong("page", repository); err != nil {
		return identity.DeploymentPage{}, err
	}
	p, err := f.API.Page(ctx, repository, next)
	if f.after != nil {
		f.after(repository)
	}
	return p, err
}

func (f *flaky) Step(ctx context.Context, repository, pipeline, step string) (identity.StepRun, error) {
	if err := f.wrong("step", repository); err != nil {
		return identity.StepRun{}, err
	}
	return f.API.Step(ctx, repository, pipeline, step)
}

func (f *flaky) wrong(what, repository string) error {
	if f.fail == nil {
		return nil
	}
	return f.fail(what, repository)
}

var errAway = errors.New("the API is away")

func build(t testing.TB) *env {
	t.Helper()
	h := &env{t: t, db: pgtest.NewFrom(t, "sallyport", migrate), now: time.Now().Add(time.Hour).Truncate(time.Second)}
	var err error
	if h.server, err = bitbuckettest.New(bitbuckettest.Options{BaseURL: "http://127.0.0.1", Now: h.clock}); err != nil {
		t.Fatal(err)
	}
	if err := h.server.StartInMemory(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.server.Close)
	h.acme = h.server.AddWorkspace("acme")
	h.acme.SetAccessTokens("access-token")
	h.payments = h.acme.AddRepository("payments", "PAY")
	h.eu = h.payments.AddEnvironment("Production EU", bitbuckettest.Production)

	url := h.db.URL(database.Writer)
	logger := slog.New(slog.NewTextHandler(pgtest.LogWriter{T: t}, nil))
	if h.log, err = auditwriter.Open(t.Context(), auditwriter.Config{URL: url, Version: "test", Journal: filepath.Join(t.TempDir(), "journal"), Log: logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.log.Close(context.Background()) })
	if h.store, err = identitypg.Open(t.Context(), identitypg.Config{URL: url, Log: logger}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.store.Close)
	if h.conn, err = pgx.Connect(t.Context(), h.db.URL("")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.conn.Close(context.Background()) })
	h.Reconciler = h.instance(logger)
	return h
}

// instance makes one more, on the same database.
func (h *env) instance(logger *slog.Logger) *Reconciler {
	a, err := bitbucket.New(bitbucket.Config{Workspaces: []bitbucket.Workspace{{
		Slug: "acme", UUID: h.acme.UUID, Issuer: h.acme.Issuer(), Audiences: []string{"x"},
		API: &bitbucketapi.Config{URL: h.server.APIURL(), Token: func() (string, error) { return "access-token", nil }, RequestsPerHour: 10_000_000},
	}}}, bitbucket.Deps{Transport: h.server.Client().Transport, Log: logger})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(a.Close)
	api, err := a.API(h.acme.UUID)
	if err != nil {
		h.t.Fatal(err)
	}
	h.api = &flaky{API: reconcilebb.New(api, 10_000_000)}
	return New(Config{
		Workspaces: []Workspace{{UUID: h.acme.UUID, Slug: "acme", API: h.api}},
		Open: func(ctx context.Context) (Session, error) {
			s, err := reconcilepg.Open(ctx, h.db.URL(database.Writer))
			if err != nil {
				return nil, err
			}
			return s, nil
		},
		Record: h.log.Record, Interval: time.Hour, Lookback: 30 * 24 * time.Hour, GracePeriod: 15 * time.Minute, Log: logger, Now: h.clock,
	})
}

func (h *env) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

// pass lets time pass.
func (h *env) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

// runOnce makes one round when the next is due.
func (h *env) runOnce() {
	h.t.Helper()
	h.pass(time.Hour)
	if h.due == nil {
		h.due = map[string]time.Time{}
	}
	if err := h.round(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

// deploy is a run of a deployment from its beginning to its end.
func (h *env) deploy() *bitbuckettest.Step {
	s := h.payments.Run("main").Step(h.eu)
	h.pass(time.Minute)
	s.Complete("SUCCESSFUL")
	return s
}

// decided records a decision for a step.
func (h *env) decided(s *bitbuckettest.Step) {
	h.t.Helper()
	e := &audit.Event{Time: h.clock(), Kind: audit.KindDecision, Verdict: "deny", WorkspaceUUID: h.acme.UUID,
		RepositoryUUID: s.Pipeline.Repository.UUID, PipelineUUID: s.Pipeline.UUID, StepUUID: s.UUID}
	if s.Environment != nil {
		e.DeploymentUUID = s.Environment.UUID
	}
	if err := h.log.Record(h.t.Context(), e); err != nil {
		h.t.Fatal(err)
	}
}

func ask[T any](h *env, sql string, args ...any) T {
	h.t.Helper()
	return pgtest.Value[T](h.t, h.conn, sql, args...)
}

// class is the class of a step's run in the view.
func (h *env) class(s *bitbuckettest.Step) string {
	h.t.Helper()
	return ask[string](h, "SELECT coalesce(max(class), '') FROM audit.deployment_reconciliation WHERE deployment_run_uuid = $1", s.DeploymentUUID())
}

// events counts events of a kind, all and of different runs or reconciliations.
func (h *env) events(kind audit.Kind) (all, different int) {
	h.t.Helper()
	err := h.conn.QueryRow(h.t.Context(), `SELECT count(*), count(DISTINCT coalesce(a ->> 'deployment_run_uuid', a ->> 'reconciliation'))
		FROM (SELECT convert_from(record, 'UTF8')::json -> 'attributes' AS a FROM audit.events WHERE kind = $1) x`, string(kind)).Scan(&all, &different)
	if err != nil {
		h.t.Fatal(err)
	}
	return all, different
}

// outcome is that of the latest check a repository.
func (h *env) outcome(r *bitbuckettest.Repository) string {
	h.t.Helper()
	return ask[string](h, "SELECT coalesce(max(outcome), '') FROM audit.reconciliations WHERE repository_uuid = $1", r.UUID)
}
