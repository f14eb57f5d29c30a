package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// maxRepository bounds the key of a repository in bytes. A stream's name has it too.
const maxRepository = 900

// Causes of an event webhook_unqueued, in its attribute cause.
const (
	causeRepeated    = "repeated"          // another delivery with the same request or body was committed meanwhile
	causeLeaseLost   = "lease_lost"        // the task was claimed by another, or had ended
	causeRefused     = "refused"           // the database refused the change
	causeUnavailable = "audit_unavailable" // the database was unavailable: whether the change was made was not known
)

const acceptSQL = `SELECT FROM webhook.accept($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
	ARRAY(SELECT a ->> 'action' FROM json_array_elements($15::json) a), ARRAY(SELECT coalesce(a ->> 'endpoint', '') FROM json_array_elements($15::json) a))`

// Accept implements [webhook.Queue]. A repetition of a delivery whose event is recorded
// changes nothing, whichever instance accepted the first one.
func (q *Queue) Accept(ctx context.Context, d *webhook.Delivery, decision webhook.Decision) (webhook.Outcome, error) {
	repeated, err := q.isRepeated(ctx, d)
	if err != nil {
		return 0, err
	}
	if repeated {
		return webhook.Repeated, nil
	}
	id := uuid.NewV7(time.Now())
	statement, err := acceptStatement(id, d, decision)
	if err != nil {
		return 0, err
	}
	err = q.recorder.RecordWith(ctx, receivedEvent(id, d, decision), audit.Companion{
		Statements: []audit.SQLStatement{statement},
		Applied:    audit.SQLStatement{SQL: `SELECT FROM webhook.seen WHERE receiver = $1 AND key = $2 AND delivery = $3`, Args: []any{d.Receiver, bodyKey(d), id}},
		Void:       func(err error) *audit.Event { return voidEvent(id, audit.KindWebhookReceived, "", causeRepeated, err) },
	})
	switch {
	case errors.Is(err, audit.ErrNoEffect):
		return webhook.Repeated, nil
	case err != nil:
		return 0, fmt.Errorf("accept delivery %s: %w", id, err)
	}
	q.announceRoutes(decision)
	return webhook.Accepted, nil
}

// isRepeated reports whether a delivery repeats a committed one. A key that is valid for
// longer than any new key was written before the clock of the database was set back, and
// counts as expired. Two repetitions at the same time both pass here; the database commits
// one of them.
func (q *Queue) isRepeated(ctx context.Context, d *webhook.Delivery) (repeated bool, err error) {
	err = q.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM webhook.seen WHERE receiver = $1 AND until > clock_timestamp()
		AND (key = $2 AND until <= clock_timestamp() + interval '6 minutes' OR key = $3 AND until <= clock_timestamp() + interval '1441 minutes'))`,
		d.Receiver, bodyKey(d), requestKey(d)).Scan(&repeated)
	if err != nil {
		return false, q.explain("find a repetition", err)
	}
	return repeated, nil
}

// The keys of webhook.accept.
func bodyKey(d *webhook.Delivery) string { return "body " + hex.EncodeToString(d.Digest[:]) }

func requestKey(d *webhook.Delivery) string { return "request " + d.RequestID }

func acceptStatement(id string, d *webhook.Delivery, decision webhook.Decision) (audit.SQLStatement, error) {
	header, err := json.Marshal(d.Header)
	if err != nil {
		return audit.SQLStatement{}, fmt.Errorf("accept delivery %s: header: %w", id, err)
	}
	routes, err := json.Marshal(decision.Routes)
	if err != nil || len(decision.Routes) == 0 {
		routes = []byte("[]")
	}
	var client any
	if d.Client.IsValid() {
		client = d.Client.WithZone("").String()
	}
	return audit.SQLStatement{SQL: acceptSQL, Args: []any{
		id, d.Received, d.Receiver, d.Event.Kind.String(), d.Event.Key, repositoryKey(d.Event), orNull(d.RequestID), orNull(d.HookUUID), int64(d.Attempt), client,
		d.Digest[:], string(header), d.Body, isAllowed(decision), string(routes),
	}}, nil
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// repositoryKey is the UUID of an event's repository, or its full name where Bitbucket gives
// no UUID. It has no byte that PostgreSQL refuses.
func repositoryKey(e *webhook.Event) string {
	switch {
	case e.Repository == nil:
		return ""
	case e.Repository.UUID != "":
		return e.Repository.UUID
	}
	return audit.Text(e.Repository.FullName, maxRepository)
}

// voidEvent is the event that follows the one of the given kind if its change was not made.
func voidEvent(id string, kind audit.Kind, endpoint, noEffect string, err error) *audit.Event {
	cause, message := causeUnavailable, ""
	switch {
	case errors.Is(err, audit.ErrNoEffect):
		cause = noEffect
	case errors.Is(err, audit.ErrRefused):
		cause, message = causeRefused, err.Error()
	}
	e := &audit.Event{Kind: audit.KindWebhookUnqueued, DecisionID: id, Action: actionWebhook, Message: message}
	attribute(e, "event", string(kind))
	attribute(e, "cause", cause)
	attribute(e, "endpoint", endpoint)
	return e
}

// attribute adds an attribute that has a value.
func attribute(e *audit.Event, name, value string) {
	if value != "" {
		e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value})
	}
}

func number(n int64) string { return strconv.FormatInt(n, 10) }
