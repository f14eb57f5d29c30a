package dispatch

import (
	"net/http"
	"strconv"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// The header fields by which an endpoint recognizes repeats of a delivery.
const (
	DeliveryHeader = "Sallyport-Delivery" // the delivery's id: the same at each attempt
	AttemptHeader  = "Sallyport-Attempt"  // from 1
)

// forwardedFields are the header fields of a delivery that an endpoint receives unchanged. All
// others are dropped, whatever is stored: credentials, hop-by-hop fields, and fields by
// which a proxy reports an identity.
var forwardedFields = []string{
	"Content-Type", "User-Agent", "X-Event-Key", "X-Hook-Uuid", "X-Request-Uuid", "X-Request-Id", "X-Attempt-Number", webhook.SignatureHeader,
}

// signatureFields are the header fields that a signer sets. An agent receives deliveries
// that the gateway has signed.
var signatureFields = []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"}

// Header returns the header fields with which a task's delivery is sent at a time. signer
// is nil if the endpoint has no secret of its own. An error means that the delivery must
// not be sent.
func Header(t *webhook.Task, signer *Signer, at time.Time) (http.Header, error) {
	return headerOf(t, forwardedFields, signer, at)
}

func headerOf(t *webhook.Task, names []string, signer *Signer, at time.Time) (http.Header, error) {
	h := make(http.Header, len(names)+5)
	for _, name := range names {
		if values := t.Header.Values(name); len(values) == 1 {
			h[http.CanonicalHeaderKey(name)] = values
		}
	}
	if h.Get("User-Agent") == "" {
		h.Set("User-Agent", "Sallyport")
	}
	h.Set(DeliveryHeader, t.Delivery)
	h.Set(AttemptHeader, strconv.Itoa(t.Attempt))
	if signer == nil {
		return h, nil
	}
	return h, signer.Sign(h, t.Delivery, at, t.Body)
}
