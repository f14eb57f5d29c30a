package webhookcmd

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditwriter "github.com/sallyport/sallyport/audit/postgres/writer"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/internal/operator"
	"github.com/sallyport/sallyport/internal/pgtest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/webhook"
	webhookpg "github.com/sallyport/sallyport/webhook/postgres"
)

// queueSetup is a queue on a real database behind the control socket of the configuration.
type queueSetup struct {
	*setup
	queue *webhookpg.Queue
	db    *pgx.Conn
}

func newQueueSetup(t *testing.T) *queueSetup {
	t.Helper()
	s := &queueSetup{setup: newSetup(t)}
	db := pgtest.NewFrom(t, "sallyport", func(ctx context.Context, url string) error {
		_, _, err := database.Migrate(ctx, url, nil)
		return err
	})
	s.db = pgtest.Connect(t, db.URL(""))
	log := slog.New(slog.DiscardHandler)
	events, err := auditwriter.Open(t.Context(), auditwriter.Config{URL: db.URL(database.Writer), Version: "test", Deadline: time.Minute, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := events.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	if s.queue, err = webhookpg.Open(t.Context(), webhookpg.Config{URL: db.URL(database.Writer), Recorder: events, Log: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.queue.Close)
	s.setup.queue = s.queue
	directory := filepath.Join(s.directory, "data")
	if err := os.Mkdir(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := admin.ListenControl(directory)
	if err != nil {
		t.Fatal(err)
	}
	control := admin.NewControl(operator.Operations(operator.Config{
		Record: events.Record, Deliveries: s.queue, Endpoints: []string{"jenkins", "kargo"}, Log: log,
	}), log)
	served := make(chan error, 1)
	go func() { served <- control.Serve(l) }()
	t.Cleanup(func() {
		if err := errors.Join(control.Close(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	return s
}

const secretBody = `{"push":{"changes":[]},"author":"ada@acme.example"}`

// accept adds a delivery with a task for each endpoint, and returns its id.
func (s *queueSetup) accept(key string, n byte, endpoints ...string) string {
	s.t.Helper()
	body := []byte(secretBody + strings.Repeat(" ", int(n)))
	d := &webhook.Delivery{
		Receiver: "a-receiver-with-a-long-name", Listener: "127.0.0.1:8443", Body: body, Digest: sha256.Sum256(body), Received: time.Now(),
		Event:     &webhook.Event{Kind: webhook.Cloud, Key: key, Repository: &webhook.Repository{UUID: "11112222-3333-4444-5555-000000000001", FullName: "acme/payments"}},
		Header:    http.Header{"X-Event-Key": {key}, "User-Agent": {"Bitbucket-Webhooks/2.0\u202e"}},
		RequestID: uuid.NewV4(),
	}
	decision := webhook.Decision{Verdict: policy.Allow, Mode: policy.Enforce, Reason: webhook.Configured}
	for _, e := range endpoints {
		decision.Routes = append(decision.Routes, webhook.Route{Action: webhook.Forward, Endpoint: e})
	}
	if outcome, err := s.queue.Accept(s.t.Context(), d, decision); err != nil || outcome != webhook.Accepted {
		s.t.Fatal(outcome, err)
	}
	return pgtest.Value[string](s.t, s.db, `SELECT max(id::text) FROM webhook.deliveries`)
}

// end claims the tasks of an endpoint and ends them one way.
func (s *queueSetup) end(endpoint string, end func(context.Context, webhook.Task) error) {
	s.t.Helper()
	for {
		tasks, err := s.queue.Claim(s.t.Context(), endpoint, 1, time.Minute)
		if err != nil {
			s.t.Fatal(err)
		}
		if len(tasks) == 0 {
			return
		}
		if err := end(s.t.Context(), tasks[0]); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *queueSetup) kill(endpoint string) {
	s.end(endpoint, func(ctx context.Context, t webhook.Task) error {
		return s.queue.Dead(ctx, t, "status 422: "+strings.Repeat("the content is not valid, ", 20))
	})
}

// run runs a command that has to succeed.
func (s *queueSetup) run(arguments ...string) string {
	s.t.Helper()
	out, _, err := s.command(arguments...)
	if err != nil {
		s.t.Fatalf("%q: %v", arguments, err)
	}
	return out
}

// operations are the recorded operations of operators.
func (s *queueSetup) operations() []string {
	return pgtest.Texts(s.t, s.db, `SELECT concat_ws('|', x ->> 'action', x ->> 'decision_id', x ->> 'message', x -> 'attributes' ->> 'endpoint', x -> 'attributes' ->> 'operator_uid')
		FROM (SELECT writer_sequence, convert_from(audit.record(e), 'UTF8')::json AS x FROM audit.events e WHERE kind = 'admin') q ORDER BY writer_sequence`)
}

// TestDeliveries: the queue is listed, shown and replayed; a replay is recorded with its
// reason, and no output but that of --body has a body.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	s := newQueueSetup(t)
	first := s.accept("repo:push", 0, "jenkins", "kargo")
	second := s.accept("pullrequest:changes_request_created", 1, "jenkins")
	third := s.accept("repo:push", 2)
	s.kill("jenkins")

	table := s.run("deliveries")
	lines := strings.Split(strings.TrimRight(table, "\n"), "\n")
	if len(lines) != 4 || !strings.HasPrefix(lines[1], third) || !strings.HasSuffix(lines[1], " -") || !strings.HasSuffix(lines[2], " dead") || !strings.HasSuffix(lines[3], " dead 1/2") {
		t.Errorf("the table is\n%s", table)
	}
	letters := s.run("dead-letters", "--endpoint", "jenkins")
	if strings.Count(letters, "\n") != 3 || !strings.Contains(letters, first) || !strings.Contains(letters, second) {
		t.Errorf("the table is\n%s", letters)
	}
	for line := range strings.Lines(table + letters) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 100 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if out := s.run("deliveries", "--state", "pending", "--endpoint", "kargo"); !strings.Contains(out, first) || strings.Contains(out, second) {
		t.Error(out)
	}
	if out := s.run("deliveries", "--until", "1h", "--format", "json"); strings.TrimSpace(out) != "[]" {
		t.Error(out)
	}
	for argument, want := range map[string]string{"--endpoint=jenkns": "`sallyport webhook list` shows the names", "--repository=acme/app": "selected by UUID"} {
		for _, list := range []string{"deliveries", "dead-letters"} {
			if _, notes, err := s.command(list, argument); err != nil || !strings.Contains(notes, "no delivery matches; ") || !strings.Contains(notes, want) {
				t.Errorf("%s %s: %v, %q", list, argument, err, notes)
			}
		}
	}
	if _, _, err := s.command("deliveries", "--state", "lost"); err == nil || !strings.Contains(err.Error(), "want one of pending, leased, done, dead") {
		t.Errorf("a state that does not exist: %v", err)
	}
	text, shown := s.run("show", first), s.run("show", first, "--format", "json")
	for _, want := range []string{"delivery " + first, "status 422: the content", "forward to kargo", "51 bytes, shown with --body", `"User-Agent: Bitbucket-Webhooks/2.0\u202e"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing:\n%s", want, text)
		}
	}
	if all := table + letters + text + shown; strings.Contains(all, "ada@") || strings.Contains(shown, `"body":`) {
		t.Error("an output has the body")
	}
	if got := s.operations(); len(got) != 0 {
		t.Errorf("recorded: %q", got)
	}

	if out := s.run("show", first, "--body", "--reason", "look for the cause"); out != secretBody {
		t.Errorf("%q", out)
	}
	var withBody admin.ShownDelivery
	if err := json.Unmarshal([]byte(s.run("show", first, "--body", "--format", "json")), &withBody); err != nil || string(withBody.Body) != secretBody || withBody.ID != first {
		t.Errorf("%v, %+v", err, withBody)
	}
	if out := s.run("replay", second, "--reason", "Jenkins was corrected"); out != "delivery "+second+" is sent to jenkins again\n" {
		t.Error(out)
	}
	if out := s.run("replay", third, first, "--endpoint", "jenkins", "--reason", "r", "--format", "json"); strings.Count(out, `"id"`) != 2 {
		t.Error(out)
	}
	uid := strconv.Itoa(os.Geteuid())
	want := []string{
		"webhook_body_shown|" + first + "|look for the cause|" + uid, "webhook_body_shown|" + first + "|" + uid,
		"webhook_replayed|" + second + "|Jenkins was corrected|jenkins|" + uid, "webhook_replayed|" + third + "|r|jenkins|" + uid, "webhook_replayed|" + first + "|r|jenkins|" + uid,
	}
	if got := s.operations(); !slices.Equal(got, want) {
		t.Errorf("recorded %q,\nwant %q", got, want)
	}
	var sent []string
	s.end("jenkins", func(ctx context.Context, t webhook.Task) error {
		sent = append(sent, t.Delivery)
		return s.queue.Done(ctx, t, webhook.TaskResult{Status: 200})
	})
	if !slices.Equal(sent, []string{second, third, first}) {
		t.Errorf("sent again: %q", sent)
	}
}

// TestDeliveriesRefuseMistakes: each mistake has exit status 2 and an error that names the
// remedy, and changes nothing.
func TestDeliveriesRefuseMistakes(t *testing.T) {
	t.Parallel()
	s := newQueueSetup(t)
	pending := s.accept("repo:push", 0, "jenkins")
	two := s.accept("repo:push", 1, "jenkins", "kargo")
	removed := s.accept("repo:push", 2, "an-old-one")
	old := s.accept("repo:push", 3, "jenkins")
	pgtest.Exec(t, s.db, `UPDATE webhook.deliveries SET body = NULL WHERE id = $1::text::uuid`, old)
	for name, c := range map[string]struct {
		arguments []string
		want      string
	}{
		"no reason":                   {[]string{"replay", pending}, "--reason TEXT is needed"},
		"an empty reason":             {[]string{"replay", pending, "--reason", " "}, "--reason TEXT is needed"},
		"a long reason":               {[]string{"replay", two, "--reason", strings.Repeat("x", 1001)}, "at most 1000 bytes"},
		"no delivery":                 {[]string{"replay", "--reason", "r"}, "1 to 100 deliveries"},
		"it waits":                    {[]string{"replay", pending, "--reason", "r"}, "needs no replay"},
		"two endpoints":               {[]string{"replay", two, "--reason", "r"}, "name one with --endpoint: jenkins, kargo"},
		"an endpoint that is gone":    {[]string{"replay", removed, "--reason", "r"}, `"an-old-one" is not an endpoint`},
		"not an endpoint":             {[]string{"replay", two, "--endpoint", "jenkin", "--reason", "r"}, `"jenkin" is not an endpoint`},
		"an old body":                 {[]string{"replay", old, "--endpoint", "kargo", "--reason", "r"}, "older than webhooks.body_max_age"},
		"show an old body":            {[]string{"show", old, "--body"}, "older than webhooks.body_max_age"},
		"another delivery":            {[]string{"replay", uuid.NewV4(), "--reason", "r"}, "no such delivery"},
		"show another delivery":       {[]string{"show", uuid.NewV4()}, "no such delivery"},
		"not an id":                   {[]string{"show", "x'; --"}, "not a valid UUID"},
		"two ids":                     {[]string{"show", pending, two}, "one delivery"},
		"raw, and no body":            {[]string{"show", pending, "--raw"}, "give it with --body"},
		"a reason for no body":        {[]string{"show", pending, "--reason", "r"}, "with --body only"},
		"not a time":                  {[]string{"deliveries", "--since", "yesterday"}, "is not a time"},
		"not a limit":                 {[]string{"dead-letters", "--limit", "0"}, "from 1 to 1000"},
		"no credential":               {[]string{"agent-credential", "revoke", "--reason", "r"}, "the id of a credential, and was given 0"},
		"a list of arguments":         {[]string{"dead-letters", "jenkins"}, "jenkins"},
		"a delivery beside a mistake": {[]string{"replay", uuid.NewV4(), two, "--endpoint", "kargo", "--reason", "r"}, "no such delivery"},
	} {
		out, _, err := s.command(c.arguments...)
		if _, ok := errors.AsType[cli.InvalidError](err); !ok || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if out != "" {
			t.Errorf("%s: prints %q", name, out)
		}
	}
	if got := s.operations(); len(got) != 0 {
		t.Errorf("recorded: %q", got)
	}
	if n := pgtest.Value[int](t, s.db, `SELECT count(*) FROM webhook.tasks`); n != 5 {
		t.Errorf("%d tasks", n)
	}
	if out := s.run("show", old); !strings.Contains(out, "deleted: it is older") {
		t.Error(out)
	}
}

// TestBodyIsNotShownUnrecorded: while the audit log is unavailable, no body is shown.
func TestBodyIsNotShownUnrecorded(t *testing.T) {
	t.Parallel()
	s := newQueueSetup(t)
	id := s.accept("repo:push", 0, "jenkins")
	broken := operator.Operations(operator.Config{
		Record:     func(context.Context, *audit.Event) error { return errors.New("unavailable") },
		Deliveries: s.queue, Log: slog.New(slog.DiscardHandler),
	}).Deliveries
	shown, err := broken.Show(t.Context(), admin.Operator{}, admin.ShowDelivery{ID: id, Body: true})
	if err == nil || shown.Body != nil || shown.ID != "" {
		t.Errorf("%+v, %v", shown, err)
	}
}
