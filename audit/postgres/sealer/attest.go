package sealer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/sallyport/sallyport/audit"
	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/database"
	"github.com/sallyport/sallyport/migrations"
)

// AttesterConfig configures how the schema and the access to the log are recorded. A
// zero field is its default.
type AttesterConfig struct {
	URL string // the database, as the role sallyport_writer or a member of it
	Log *slog.Logger
	// Record makes an event durable.
	Record func(context.Context, *audit.Event) error
	// Every is after how long an attestation is recorded although nothing changed.
	// Default 24 h.
	Every time.Duration
	// Poll is how often changes are looked for. Default 5 min.
	Poll time.Duration
}

// Attester records what the schema is and who can reach the log: when it starts,
// when that changes, and every day. Several instances may run one on one database.
// Its methods are safe for concurrent use.
type Attester struct {
	config  AttesterConfig
	connect *pgx.ConnConfig

	mu       sync.Mutex
	recorded bool // since the start
	status   AttestStatus
}

// AttestStatus is what an attester knows of itself.
type AttestStatus struct {
	At          time.Time // when the schema was last compared; zero: never
	Known       bool      // whether this program knows what the schema should be
	Differences []string  // objects that are not as this program installs them
	Err         error     // of the latest attempt; nil: it succeeded
}

// NewAttester makes an attester. It connects to nothing yet.
func NewAttester(config AttesterConfig) (*Attester, error) {
	config.Log = cmp.Or(config.Log, slog.New(slog.DiscardHandler))
	config.Every, config.Poll = cmp.Or(config.Every, 24*time.Hour), cmp.Or(config.Poll, 5*time.Minute)
	connect, err := database.ParseConfig(config.URL, "sallyport attestation")
	if err != nil {
		return nil, fmt.Errorf("attest the schema: %w", err)
	}
	connect.RuntimeParams["application_name"] = "sallyport attestation"
	return &Attester{config: config, connect: connect}, nil
}

// Status is a snapshot.
func (a *Attester) Status() AttestStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.status
}

// Run attests at once and then as often as configured, until ctx ends.
func (a *Attester) Run(ctx context.Context) {
	tick := time.NewTicker(a.config.Poll)
	defer tick.Stop()
	for {
		was := a.Status().Err
		if err := a.Attest(ctx); err != nil && ctx.Err() == nil && (was == nil || was.Error() != err.Error()) {
			a.config.Log.WarnContext(ctx, "attest the schema: not attested at the moment", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Attest compares once, and records what changed since the latest attestation of
// the log, or everything where the latest is too old, or this process has recorded
// none. The error is the database's or the log's.
func (a *Attester) Attest(ctx context.Context) error {
	schema, events, err := a.read(ctx)
	if err == nil {
		for _, e := range events {
			if err = a.config.Record(ctx, e); err != nil {
				err = fmt.Errorf("record an event of kind %s: %w", e.Kind, err)
				break
			}
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.Err = err
	if err != nil {
		return err
	}
	a.recorded = true
	differences := schema.Differences()
	if len(differences) > 0 && !slices.Equal(differences, a.status.Differences) {
		a.config.Log.WarnContext(ctx, "attest the schema: it is not what this version installs", "differences", strings.Join(differences, "; "))
	}
	a.status.At, a.status.Known, a.status.Differences = time.Now(), schema.Expected != nil, differences
	return nil
}

// read describes schema and access at one moment, and makes the events that are due.
func (a *Attester) read(ctx context.Context) (auditpg.Schema, []*audit.Event, error) {
	conn, err := database.Connect(ctx, a.connect)
	if err != nil {
		return auditpg.Schema{}, nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var schema auditpg.Schema
	var due []*audit.Event
	err = pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		var err error
		if schema, err = auditpg.DescribeSchema(ctx, tx, auditpg.SchemaSQL); err != nil {
			return err
		}
		access, err := accessLines(ctx, tx)
		if err != nil {
			return err
		}
		for _, made := range []attestation{schemaAttestation(schema), accessAttestation(access)} {
			last, at, err := latestAttestation(ctx, tx, made.kind)
			if err != nil {
				return err
			}
			a.mu.Lock()
			recorded := a.recorded
			a.mu.Unlock()
			if !recorded || last["digest"] != made.digest || time.Since(at) >= a.config.Every {
				due = append(due, made.event(last))
			}
		}
		return nil
	})
	return schema, due, database.Explain("attest the schema", &a.connect.Config, err)
}

// accessLines are the lines about who can reach the log.
func accessLines(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, auditpg.AccessLinesSQL(migrations.Access))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// attestation is what an event of one of the two kinds is made of.
type attestation struct {
	kind   audit.Kind
	digest string
	what   string // the name of the lines, and the beginning of their attributes
	lines  []string
	more   []audit.Attribute
}

func schemaAttestation(s auditpg.Schema) attestation {
	result, expected := "as_installed", "not known for this version of the schema or of PostgreSQL"
	differences := audit.OneLine(s.Differences())
	switch {
	case s.Expected == nil:
		result = "unknown"
	case len(differences) > 0:
		result = "differs"
	}
	if s.Expected != nil {
		expected = auditpg.ObjectsDigest(s.Expected)
	}
	return attestation{kind: audit.KindSchemaAttested, digest: s.Digest(), what: "differences", lines: differences, more: []audit.Attribute{
		{Name: "result", Value: result}, {Name: "expected", Value: expected},
		{Name: "schema_version", Value: strconv.FormatInt(s.Version, 10)}, {Name: "server_version", Value: strconv.Itoa(s.Server)},
		{Name: "objects", Value: strconv.Itoa(len(s.Objects))},
	}}
}

func accessAttestation(lines []string) attestation {
	objects := make(map[string]string, len(lines))
	for _, l := range lines {
		objects[l] = ""
	}
	return attestation{kind: audit.KindAccessAttested, digest: auditpg.ObjectsDigest(objects), what: "access", lines: audit.OneLine(lines)}
}

// event is the attestation with what changed since the latest one.
func (a attestation) event(last map[string]string) *audit.Event {
	e := &audit.Event{Time: time.Now(), Kind: a.kind, Attributes: append([]audit.Attribute{{Name: "digest", Value: a.digest}}, a.more...)}
	switch previous := last["digest"]; {
	case previous == "":
		e.Message = "the first attestation"
	case previous == a.digest:
		e.Message = "unchanged"
	default:
		e.Message = "changed"
		e.Attributes = append(e.Attributes, audit.Attribute{Name: "previous", Value: previous})
		e.Attributes = audit.AppendLines(e.Attributes, "changes", audit.ChangedLines(audit.Lines(last, a.what), a.lines), 20)
	}
	e.Attributes = audit.AppendLines(e.Attributes, a.what, a.lines, 60)
	return e
}

// latestAttestation returns the attributes of the latest event of a kind, and when
// it was; none: nil.
func latestAttestation(ctx context.Context, tx pgx.Tx, kind audit.Kind) (attributes map[string]string, at time.Time, err error) {
	err = tx.QueryRow(ctx, `SELECT convert_from(record, 'UTF8')::json -> 'attributes', time FROM audit.events
		WHERE kind = $1 AND kind NOT IN ('decision', 'tunnel_closed', 'request_closed') ORDER BY time DESC LIMIT 1`, string(kind)).Scan(&attributes, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, time.Time{}, nil
	}
	return attributes, at, err
}
