package dispatch

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

// Form is how deliveries are signed with an endpoint's own secret. The zero value is not a
// form.
type Form string

// The forms.
const (
	// StandardWebhooks adds the header fields webhook-id, webhook-timestamp and
	// webhook-signature (Standard Webhooks 1.0.0, HMAC-SHA256). Bitbucket's signature stays.
	StandardWebhooks Form = "standard_webhooks"
	// HubSignature replaces Bitbucket's X-Hub-Signature by one with the endpoint's secret.
	HubSignature Form = "hub_signature"
)

// Signer signs deliveries with the secret of one endpoint. It is safe for concurrent use.
type Signer struct {
	form             Form
	secret, previous func() (string, error) // previous may be nil
}

// NewSigner returns a signer. secret returns the present secret, and previous the one that
// it replaces: during a rotation, a delivery has a signature with each of the two, and the
// endpoint verifies one of them (Standard Webhooks 1.0.0, "Signature header"). previous may
// be nil, and its secret may begin with [webhook.UnusedSecretPrefix]: then there is one
// signature. Both are called for each delivery, so that a rotated secret takes effect at
// once. NewSigner returns an error if the form is unknown, if a present secret is not one of
// that form, or if the form has one signature only and previous is not nil.
func NewSigner(form Form, secret, previous func() (string, error)) (*Signer, error) {
	s := &Signer{form, secret, previous}
	if form == HubSignature && previous != nil {
		return nil, fmt.Errorf("sign: %s has one signature: rotate the secret at the endpoint, or use %s", HubSignature, StandardWebhooks)
	}
	if _, err := s.sign("", time.Time{}, nil); err != nil {
		return nil, err
	}
	return s, nil
}

// Sign sets the header fields of the signature. An error means that the secret is not
// usable now: the delivery must not be sent.
func (s *Signer) Sign(h http.Header, id string, at time.Time, body []byte) error {
	signature, err := s.sign(id, at, body)
	if err != nil {
		return err
	}
	if s.form == HubSignature {
		h.Set(webhook.SignatureHeader, signature)
		return nil
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", strconv.FormatInt(at.Unix(), 10))
	h.Set("Webhook-Signature", signature)
	return nil
}

func (s *Signer) sign(id string, at time.Time, body []byte) (string, error) {
	text, err := s.secret()
	if err != nil {
		return "", fmt.Errorf("sign: %w", err)
	}
	switch s.form {
	case HubSignature:
		secret, err := webhook.NewSecret(text)
		if err != nil {
			return "", fmt.Errorf("sign: %w", err)
		}
		return secret.Sign(body).String(), nil
	case StandardWebhooks:
		return s.standard(text, id, at, body)
	}
	return "", fmt.Errorf("sign: unknown form %q: use %s or %s", s.form, StandardWebhooks, HubSignature)
}

// standard returns the signatures of Standard Webhooks, separated by spaces, that with the
// present secret first.
func (s *Signer) standard(secret, id string, at time.Time, body []byte) (string, error) {
	key, err := standardKey(secret)
	if err != nil {
		return "", err
	}
	signature := standardSignature(key, id, at, body)
	if s.previous == nil {
		return signature, nil
	}
	previous, err := s.previous()
	if err != nil {
		return "", fmt.Errorf("sign: previous secret: %w", err)
	}
	if strings.HasPrefix(previous, webhook.UnusedSecretPrefix) {
		return signature, nil
	}
	if key, err = standardKey(previous); err != nil {
		return "", fmt.Errorf("previous secret: %w", err)
	}
	return signature + " " + standardSignature(key, id, at, body), nil
}

// standardKey decodes a secret of Standard Webhooks: whsec_ and base64 of 24 to 64 bytes.
// Errors do not contain the secret.
func standardKey(secret string) ([]byte, error) {
	const remedy = `write whsec_ and the base64 of 24 to 64 random bytes, for example with: echo "whsec_$(openssl rand -base64 32)"`
	encoded, ok := strings.CutPrefix(secret, "whsec_")
	if !ok {
		return nil, errors.New("sign: the secret does not begin with whsec_: " + remedy)
	}
	key, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return nil, errors.New("sign: the secret is not base64 after whsec_: " + remedy)
	}
	if len(key) < 24 || len(key) > 64 {
		return nil, fmt.Errorf("sign: the secret has %d bytes: %s", len(key), remedy)
	}
	return key, nil
}

// standardSignature is the signature over id, time and body. The id is a UUID and has no
// full stop, so that the three parts cannot be confused.
func standardSignature(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	_, _ = fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
