package agent

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// maxLease bounds the text of a lease.
const maxLease = 16 << 10

var errLease = errors.New("not a lease of this credential")

// leased is the content of a lease: the task without header and body.
type leased struct {
	ID         int64          `json:"id"`
	Fence      int64          `json:"fence"`
	Delivery   string         `json:"delivery"`
	Action     webhook.Action `json:"action"`
	Endpoint   string         `json:"endpoint"`
	Stream     string         `json:"stream"`
	Attempt    int            `json:"attempt"`
	Received   time.Time      `json:"received"`
	Leased     time.Time      `json:"leased_at,omitzero"`
	Receiver   string         `json:"receiver"`
	Event      string         `json:"event"`
	Repository string         `json:"repository"`
	RequestID  string         `json:"request_id"`
}

// seal returns a lease of the task. The key belongs to the credential: an agent can use
// neither the leases of another agent nor make one for a task that it was not given.
func seal(key [32]byte, t webhook.Task) (string, error) {
	content, err := json.Marshal(leased{
		t.ID, t.Fence, t.Delivery, t.Action, t.Endpoint, t.Stream, t.Attempt, t.Received, t.Leased, t.Receiver, t.Event, t.Repository, t.RequestID,
	})
	if err != nil {
		return "", err
	}
	encoded := base64.RawURLEncoding.EncodeToString(content)
	return encoded + "." + base64.RawURLEncoding.EncodeToString(mac(key, encoded)), nil
}

// open returns the task of a lease, without header and body.
func open(key [32]byte, endpoint, lease string) (webhook.Task, error) {
	if len(lease) > maxLease || key == [32]byte{} {
		return webhook.Task{}, errLease
	}
	encoded, tag, ok := strings.Cut(lease, ".")
	sum, err := base64.RawURLEncoding.Strict().DecodeString(tag)
	if !ok || err != nil || !hmac.Equal(sum, mac(key, encoded)) {
		return webhook.Task{}, errLease
	}
	content, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return webhook.Task{}, errLease
	}
	var l leased
	if err := json.Unmarshal(content, &l); err != nil || l.Endpoint != endpoint {
		return webhook.Task{}, errLease
	}
	return webhook.Task{
		ID: l.ID, Fence: l.Fence, Delivery: l.Delivery, Action: l.Action, Endpoint: l.Endpoint, Stream: l.Stream, Attempt: l.Attempt,
		Received: l.Received, Leased: l.Leased, Receiver: l.Receiver, Event: l.Event, Repository: l.Repository, RequestID: l.RequestID,
	}, nil
}

func mac(key [32]byte, text string) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write([]byte(text))
	return h.Sum(nil)
}
