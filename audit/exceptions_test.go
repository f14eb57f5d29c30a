package audit

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestAddExceptionsIsJSON: whatever an exception holds, its attribute is JSON that
// moves nothing, within the bound, after the event was made fit to be written.
func TestAddExceptionsIsJSON(t *testing.T) {
	hostile := "\x00\x1b[2J\u202e\u2028\"\\\xff</script>" + strings.Repeat("é", 400)
	var list []AppliedException
	for range 16 {
		list = append(list, AppliedException{Path: "data." + hostile, Owner: hostile, Ticket: hostile, Hosts: []string{hostile, hostile, hostile, hostile}, Until: time.Unix(1e9, 0)})
	}
	for n := range len(list) + 1 {
		e := Event{Time: time.Unix(1e9, 0), Kind: KindDecision, Writer: "w", WriterSequence: 1}
		e.AddExceptions(list[:n])
		e.Normalise()
		if len(e.Exceptions) != n {
			t.Fatalf("%d of %d places", len(e.Exceptions), n)
		}
		if n == 0 {
			if len(e.Attributes) > 0 {
				t.Errorf("%v", e.Attributes)
			}
			continue
		}
		value := e.Attributes[0].Value
		var read []map[string]any
		if err := json.Unmarshal([]byte(value), &read); err != nil || len(read) == 0 || len(value) > capText || !utf8.ValidString(value) {
			t.Fatalf("%d exceptions: %v, %d bytes: %s", n, err, len(value), value)
		}
		for _, one := range read {
			for name, v := range one {
				if text, ok := v.(string); ok && Text(text, capText) != text {
					t.Errorf("%s holds %q", name, text)
				}
			}
		}
		if record := e.AppendRecord(nil); !json.Valid(record) {
			t.Errorf("the record is not JSON: %s", record)
		}
	}
}
