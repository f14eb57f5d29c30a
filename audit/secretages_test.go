package audit

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// attributesOf are the attributes of an event as a record has them.
func attributesOf(list []Attribute) map[string]string {
	e := Event{Kind: KindSecretAges, Attributes: list}
	e.Normalise()
	m := map[string]string{}
	for _, a := range e.Attributes {
		m[a.Name] = a.Value
	}
	return m
}

// TestSecretAges: a list is read as it was written, over several attributes too.
func TestSecretAges(t *testing.T) {
	at := time.Date(2026, 8, 1, 12, 30, 15, 0, time.UTC)
	var list []SecretAge
	for i := range 200 {
		list = append(list, SecretAge{Name: "webhooks.receivers[r" + strings.Repeat("x", i%40) + "].secret_file", Kind: "webhook_secret", Since: at.Add(time.Duration(i) * time.Hour)})
	}
	list = append(list, SecretAge{Name: "a name with spaces", Kind: "certificate", Since: at, Expires: at.AddDate(1, 0, 0)}, SecretAge{Name: "unknown", Kind: "api_token"})
	attributes := AppendSecretAges(nil, list)
	if got := SecretAges(attributesOf(attributes)); !slices.Equal(got, list) || len(attributes) < 2 {
		t.Errorf("%d of %d in %d attributes", len(got), len(list), len(attributes))
	}
	if got := SecretAges(nil); got != nil {
		t.Errorf("%v", got)
	}
}

// FuzzSecretAges: no attribute of a forged event hides an entry or panics. What is written
// again is read as before.
func FuzzSecretAges(f *testing.F) {
	f.Add("api_token 2026-08-01T12:30:15Z - identity.bitbucket[0].api.token_file")
	f.Add("certificate - 2026-08-01T12:30:15+02:00 x; y; api_token yesterday - z")
	f.Add("; ;-")
	f.Fuzz(func(t *testing.T, text string) {
		got := SecretAges(map[string]string{secretsAttribute: text})
		if text != "" && len(got) != strings.Count(text, lineSeparator)+1 {
			t.Fatalf("%d entries in %q", len(got), text)
		}
		for _, a := range got {
			if a.Kind == "" && !a.Since.IsZero() {
				t.Fatalf("%+v", a)
			}
		}
	})
}
