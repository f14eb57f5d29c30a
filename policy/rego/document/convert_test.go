package document

import (
	"encoding/json"
	"testing"
)

// FuzzJSON: a document that is read becomes JSON, and that JSON becomes itself.
func FuzzJSON(f *testing.F) {
	f.Add([]byte("a: [x, 1]\nb: {c: true}\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		first, err := JSON(content)
		if err != nil {
			return
		}
		if !json.Valid(first) {
			t.Fatalf("%q became %q, which is not JSON", content, first)
		}
		again, err := JSON(first)
		if err != nil || string(again) != string(first) {
			t.Errorf("%q became %q and then %q, %v", content, first, again, err)
		}
	})
}
