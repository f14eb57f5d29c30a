package rego

import (
	"bytes"
	"errors"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/webhook"
)

// newDeliveryInput makes the canonical input of a delivery.
func newDeliveryInput(d *webhook.Delivery) (*evalInput, error) {
	term, json, err := canonical.Delivery(d)
	if err != nil {
		return nil, err
	}
	in := &evalInput{domain: deliveries, term: term, json: json, time: d.Received.UTC().Truncate(time.Microsecond), host: d.Receiver}
	if r := d.Event.Repository; r != nil {
		in.repository, in.repositoryUUID = canonical.FolderName(r.FullName), r.UUID
	}
	return in, nil
}

// recordedDelivery sets what is known of a recorded input about a delivery; get returns
// the text at a path.
func (in *evalInput) recordedDelivery(get func(path ...string) string) {
	in.domain, in.host = deliveries, get("receiver")
	in.repository = canonical.FolderName(get("repository", "full_name"))
	in.repositoryUUID = get("repository", "uuid")
}

var receiverKey = canonical.Key("receiver")

// domainOfInput returns the domain of an input: only one about a delivery has a receiver.
func domainOfInput(input *ast.Term) *domain {
	if object, ok := input.Value.(ast.Object); ok && object.Get(receiverKey) != nil {
		return deliveries
	}
	return egress
}

// IsDelivery reports whether an input, in the form in which inputs are recorded, is about a
// webhook delivery.
func IsDelivery(input []byte) bool { return domainOfText(input) == deliveries }

// domainOfText returns the domain of an input in the form in which inputs are recorded.
func domainOfText(input []byte) *domain {
	if bytes.HasPrefix(input, []byte(`{"receiver":`)) {
		return deliveries
	}
	return egress
}

// checkNotDelivery returns an error if a recorded input is about a delivery: its decision is
// not one about a request.
func (in *evalInput) checkNotDelivery() error {
	if in.domain == deliveries {
		return errors.New("policy: the recorded input is about a webhook delivery")
	}
	return nil
}
