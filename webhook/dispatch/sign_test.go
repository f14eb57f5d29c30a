package dispatch

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/webhook"
)

func fixed(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

func signerOf(t testing.TB, form Form, secret string) *Signer {
	t.Helper()
	s, err := NewSigner(form, fixed(secret), nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

const specSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// TestSignatures compares with values that others published: Standard Webhooks (the vector of
// its reference libraries) and Bitbucket's documentation of X-Hub-Signature.
func TestSignatures(t *testing.T) {
	for _, c := range []struct {
		name     string
		form     Form
		secret   string
		id       string
		unix     int64
		body     string
		field    string
		expected string
	}{
		{"standard webhooks", StandardWebhooks, specSecret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, `{"test": 2432232314}`,
			"Webhook-Signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"hub signature", HubSignature, "It's a Secret to Everybody", "", 0, "Hello World!",
			"X-Hub-Signature", "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := http.Header{"X-Hub-Signature": {"sha256=of Bitbucket"}}
			if err := signerOf(t, c.form, c.secret).Sign(h, c.id, time.Unix(c.unix, 0), []byte(c.body)); err != nil {
				t.Fatal(err)
			}
			if got := h.Get(c.field); got != c.expected {
				t.Errorf("%s = %q, want %q", c.field, got, c.expected)
			}
			if c.form == StandardWebhooks && (h.Get("Webhook-Id") != c.id || h.Get("Webhook-Timestamp") != "1614265330" || h.Get("X-Hub-Signature") != "sha256=of Bitbucket") {
				t.Errorf("fields: %v", h)
			}
		})
	}
}

// TestSecretsThatAreRefused has secrets that would sign with a key that the endpoint cannot verify, or
// with none.
func TestSecretsThatAreRefused(t *testing.T) {
	for _, c := range []struct {
		form   Form
		secret string
	}{
		{StandardWebhooks, ""},
		{StandardWebhooks, "whsec_"},
		{StandardWebhooks, strings.TrimPrefix(specSecret, "whsec_")},
		{StandardWebhooks, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa=="}, // 22 bytes
		{StandardWebhooks, "whsec_" + strings.Repeat("QUFB", 22)},    // 66 bytes
		{StandardWebhooks, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa_-"}, // the other alphabet
		{StandardWebhooks, "whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"},  // a public key
		{HubSignature, ""},
		{HubSignature, strings.Repeat("x", webhook.MaxSecret+1)},
		{"", specSecret},
		{"Standard_Webhooks", specSecret},
	} {
		_, err := NewSigner(c.form, fixed(c.secret), nil)
		if err == nil {
			t.Errorf("NewSigner(%q, %q) accepts the secret", c.form, c.secret)
		} else if len(c.secret) > 8 && strings.Contains(err.Error(), c.secret[6:]) {
			t.Errorf("the error has the secret: %v", err)
		}
	}
}

// TestSecretIsReadForEachDelivery rotates a secret to one that is not usable: nothing may be
// sent without a signature.
func TestSecretIsReadForEachDelivery(t *testing.T) {
	secret := specSecret
	s, err := NewSigner(StandardWebhooks, func() (string, error) { return secret, nil }, nil)
	if err != nil {
		t.Fatal(err)
	}
	task := webhook.Task{Delivery: "d", Attempt: 1}
	first, err := Header(&task, s, time.Unix(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	secret = "whsec_" + strings.Repeat("QUFB", 10)
	second, err := Header(&task, s, time.Unix(1, 0))
	if err != nil || first.Get("Webhook-Signature") == second.Get("Webhook-Signature") {
		t.Errorf("after the rotation: %v, %v", second, err)
	}
	secret = ""
	if _, err := Header(&task, s, time.Unix(1, 0)); err == nil {
		t.Error("an empty secret signs")
	}
}

// TestTwoSecrets: during a rotation an endpoint with either secret verifies a delivery, and
// after it only one with the present secret does. A previous secret that cannot be used
// signs nothing.
func TestTwoSecrets(t *testing.T) {
	other := "whsec_" + strings.Repeat("QUFB", 10)
	present, previous := specSecret, other
	s, err := NewSigner(StandardWebhooks, func() (string, error) { return present, nil }, func() (string, error) { return previous, nil })
	if err != nil {
		t.Fatal(err)
	}
	task := webhook.Task{Delivery: "d", Attempt: 1, Body: []byte("body")}
	at := time.Unix(1, 0)
	// verifies reports whether an endpoint with a secret accepts the signatures, as the
	// specification orders it: one of the list is that of the secret.
	verifies := func(secret string) bool {
		h, err := Header(&task, s, at)
		if err != nil {
			t.Fatal(err)
		}
		key, err := standardKey(secret)
		if err != nil {
			t.Fatal(err)
		}
		list := h.Values("Webhook-Signature")
		return len(list) == 1 && slices.Contains(strings.Split(list[0], " "), standardSignature(key, "d", at, task.Body))
	}
	if !verifies(present) || !verifies(other) {
		t.Error("a secret of the rotation is not accepted")
	}
	previous = webhook.UnusedSecretPrefix + "0123"
	if !verifies(present) || verifies(other) {
		t.Error("after the rotation")
	}
	previous = "whsec_AAAA"
	if _, err := Header(&task, s, at); err == nil || strings.Contains(err.Error(), "AAAA") {
		t.Errorf("with a previous secret that cannot be used: %v", err)
	}
	if _, err := NewSigner(StandardWebhooks, fixed(present), fixed(previous)); err == nil {
		t.Error("a signer is made with a previous secret that cannot be used")
	}
	if _, err := NewSigner(HubSignature, fixed("secret"), fixed("previous")); err == nil || !strings.Contains(err.Error(), "one signature") {
		t.Errorf("X-Hub-Signature with two secrets: %v", err)
	}
}
