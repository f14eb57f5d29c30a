package postgres

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/webhook"
)

// FuzzParseHeader: whatever the database returns as header fields gives fields or an error,
// and what was stored is read again.
func FuzzParseHeader(f *testing.F) {
	for _, s := range []string{`{}`, `null`, `{"A":["b","c"]}`, `{"x-a":[],"X-A":[""]}`, `[]`, `{"A":"b"}`, `{"A":[1]}`, ``, `{"a\u0000":["\ud800"]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := parseHeader(text)
		if err != nil {
			if h != nil {
				t.Error("fields with an error")
			}
			return
		}
		again, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parseHeader(again); err != nil || len(second) != len(h) {
			t.Errorf("%v, then %v, %v", h, second, err)
		}
	})
}

// FuzzDeliveryText: whatever text a verified body has, its event fits the log and its
// statement has only text that PostgreSQL accepts.
func FuzzDeliveryText(f *testing.F) {
	f.Add("main", "acme/payments", "", "a", []byte("{}"), 1)
	f.Add("a\x00\xff\u202e;\n", "\x00", strings.Repeat("x", 3000), "\xff", []byte{0}, 100)
	f.Fuzz(func(t *testing.T, ref, name, id, value string, body []byte, refs int) {
		d := &webhook.Delivery{
			Receiver: "cloud", Body: body, Digest: sha256.Sum256(body), Header: http.Header{"X-Event-Key": {value}},
			Event: &webhook.Event{Kind: webhook.DataCenter, Key: "repo:refs_changed", Repository: &webhook.Repository{FullName: name, Project: id}, Actor: webhook.Actor{UUID: id}},
		}
		for range max(0, min(refs, 200)) {
			d.Event.Refs = append(d.Event.Refs, webhook.Ref{Type: webhook.Branch, Name: ref, Change: webhook.Updated, Old: id, New: value})
		}
		decision := allowed("jenkins")
		decision.Message, decision.Rule = name, ref
		const delivery = "019a0000-0000-7000-8000-000000000001"
		e := receivedEvent(delivery, d, decision)
		e.Normalise()
		record := e.AppendRecord(nil)
		if !json.Valid(record) || len(record) > audit.MaxRequestRecord {
			t.Errorf("a record of %d bytes: %.200s", len(record), record)
		}
		s, err := acceptStatement(delivery, d, decision)
		if err != nil {
			t.Fatal(err)
		}
		for i, arg := range s.Args {
			if text, ok := arg.(string); ok && (strings.ContainsRune(text, 0) || !utf8.ValidString(text)) {
				t.Errorf("parameter %d: %q", i+1, text)
			}
		}
		if key := repositoryKey(d.Event); len(key) > 1000 {
			t.Errorf("a key of %d bytes", len(key))
		}
	})
}
