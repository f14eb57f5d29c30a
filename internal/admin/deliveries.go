package admin

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/webhook"
)

// Deliveries lists stored deliveries.
func (c *ControlClient) Deliveries(ctx context.Context, f webhook.DeliveryFilter) ([]webhook.StoredDelivery, error) {
	return postJSON[[]webhook.StoredDelivery](ctx, c, http.MethodPost, pathDeliveries, f)
}

// ShowDelivery returns one delivery.
func (c *ControlClient) ShowDelivery(ctx context.Context, r ShowDelivery) (ShownDelivery, error) {
	return postJSON[ShownDelivery](ctx, c, http.MethodPost, pathDeliveryShow, r)
}

// ReplayDelivery sends a delivery again.
func (c *ControlClient) ReplayDelivery(ctx context.Context, r ReplayDelivery) (ReplayedDelivery, error) {
	return postJSON[ReplayedDelivery](ctx, c, http.MethodPost, pathDeliveryReplay, r)
}

// TraceDelivery returns the present outcome of a delivery.
func (c *ControlClient) TraceDelivery(ctx context.Context, r TraceDelivery) (webhook.DeliveryTrace, error) {
	return postJSON[webhook.DeliveryTrace](ctx, c, http.MethodPost, pathDeliveryTrace, r)
}
