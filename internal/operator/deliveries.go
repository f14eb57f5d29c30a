package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/admin"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

const actionBodyShown = "webhook_body_shown"

// Deliveries are the accepted webhook deliveries that all instances share.
type Deliveries interface {
	List(ctx context.Context, f webhook.DeliveryFilter) ([]webhook.StoredDelivery, error)
	// Show returns a delivery, or an error that wraps [webhook.ErrDeliveryNotFound].
	Show(ctx context.Context, id string) (*webhook.StoredDelivery, error)
	// Body returns the body of a delivery. The error wraps [webhook.ErrBodyDeleted] if it is
	// not kept.
	Body(ctx context.Context, id string) ([]byte, error)
	// Replay adds a task for an endpoint in the transaction of its event.
	Replay(ctx context.Context, id, endpoint string, by webhook.Replayer) error
	// Trace returns the outcome of the latest delivery with a body, or an error that wraps
	// [webhook.ErrDeliveryNotFound].
	Trace(ctx context.Context, receiver, digest string) (*webhook.DeliveryTrace, error)
}

// deliveries list, show and replay stored deliveries.
type deliveries struct {
	store     Deliveries
	endpoints []string // of the instance's configuration
	record    func(ctx context.Context, by admin.Operator, action, reason string, details ...func(*audit.Event)) error
	log       *slog.Logger
}

// List lists deliveries. It is not recorded: it shows what the audit log has.
func (d deliveries) List(ctx context.Context, _ admin.Operator, f webhook.DeliveryFilter) ([]webhook.StoredDelivery, error) {
	return d.store.List(ctx, f)
}

// Show returns a delivery. A body is recorded as shown before it is returned.
func (d deliveries) Show(ctx context.Context, by admin.Operator, r admin.ShowDelivery) (shown admin.ShownDelivery, err error) {
	if err := checkReason(r.Reason); err != nil {
		return shown, err
	}
	stored, err := d.find(ctx, r.ID)
	if err != nil {
		return shown, err
	}
	shown.StoredDelivery = *stored
	if !r.Body {
		return shown, nil
	}
	body, err := d.store.Body(ctx, stored.ID)
	if err != nil {
		return admin.ShownDelivery{}, mistaken(err)
	}
	if err := d.record(ctx, by, actionBodyShown, r.Reason, func(e *audit.Event) { e.DecisionID = stored.ID }); err != nil {
		return admin.ShownDelivery{}, fmt.Errorf("the body is not shown: %w", err)
	}
	shown.Body = body
	return shown, nil
}

// Replay sends a delivery again. The queue records that in the same transaction.
func (d deliveries) Replay(ctx context.Context, by admin.Operator, r admin.ReplayDelivery) (admin.ReplayedDelivery, error) {
	var none admin.ReplayedDelivery
	if err := checkReason(r.Reason); err != nil {
		return none, err
	}
	if strings.TrimSpace(r.Reason) == "" {
		return none, &admin.Mistake{Message: "a reason is needed: it is recorded in the audit log"}
	}
	stored, err := d.find(ctx, r.ID)
	if err != nil {
		return none, err
	}
	endpoint, err := d.endpoint(stored, r.Endpoint)
	if err != nil {
		return none, err
	}
	err = d.store.Replay(ctx, stored.ID, endpoint, webhook.Replayer{Name: by.String(), Reason: r.Reason, UID: by.UID, PID: by.PID})
	if err != nil {
		return none, mistaken(err)
	}
	d.log.Warn("operator action", "operation", "webhook_replayed", "operator", by.String(), "reason", r.Reason, "delivery", stored.ID, "endpoint", endpoint)
	return admin.ReplayedDelivery{ID: stored.ID, Endpoint: endpoint}, nil
}

// Trace returns the outcome of a delivery. It is not recorded: it shows what the audit log has.
func (d deliveries) Trace(ctx context.Context, _ admin.Operator, r admin.TraceDelivery) (webhook.DeliveryTrace, error) {
	trace, err := d.store.Trace(ctx, r.Receiver, r.Digest)
	if err != nil {
		return webhook.DeliveryTrace{}, mistaken(err)
	}
	return *trace, nil
}

func (d deliveries) find(ctx context.Context, id string) (*webhook.StoredDelivery, error) {
	canonical, ok := uuid.Parse(id)
	if !ok {
		return nil, &admin.Mistake{Message: "the id of a delivery is not a valid UUID: see `sallyport webhook deliveries`"}
	}
	stored, err := d.store.Show(ctx, canonical)
	return stored, mistaken(err)
}

// endpoint returns where a replay goes: the endpoint that the operator names, or the only
// one that the delivery had. It has to be configured, or the task would never be sent.
func (d deliveries) endpoint(stored *webhook.StoredDelivery, named string) (string, error) {
	var had []string
	for _, t := range stored.Tasks {
		if !slices.Contains(had, t.Endpoint) {
			had = append(had, t.Endpoint)
		}
	}
	if named == "" {
		if len(had) != 1 {
			return "", &admin.Mistake{Message: fmt.Sprintf("delivery %s: it had several endpoints: name one with --endpoint: %s", stored.ID, strings.Join(had, ", "))}
		}
		named = had[0]
	}
	if !slices.Contains(d.endpoints, named) {
		return "", &admin.Mistake{Message: fmt.Sprintf("delivery %s: %q is not an endpoint of the instance's configuration; those are: %s", stored.ID, named, strings.Join(d.endpoints, ", "))}
	}
	for _, t := range stored.Tasks {
		if t.Endpoint == named && (t.State == webhook.TaskPending || t.State == webhook.TaskLeased) {
			return "", &admin.Mistake{Message: fmt.Sprintf("delivery %s is still to be sent to %s, which needs no replay", stored.ID, named)}
		}
	}
	return named, nil
}

// mistaken makes an error about what is not kept that of the operator.
func mistaken(err error) error {
	if errors.Is(err, webhook.ErrDeliveryNotFound) || errors.Is(err, webhook.ErrBodyDeleted) {
		return &admin.Mistake{Message: err.Error()}
	}
	return err
}
