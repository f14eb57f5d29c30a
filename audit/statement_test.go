package audit

import (
	"strings"
	"testing"
)

// TestStatement: a statement opens with its title and key alone, and is never a
// checkpoint, nor a checkpoint a statement.
func TestStatement(t *testing.T) {
	private, err := GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	const title, text = "some sort of statement", "{\"a\": 1}\n"
	signed, err := signer.SignStatement(title, text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := signer.SignStatement(title, text)
	if err != nil || string(again) != string(signed) {
		t.Errorf("%v: it is another one: %s", err, again)
	}
	if got, by, err := OpenStatement(signed, title, "no key", signer.Key()); err != nil || got != text || by != signer.Key() {
		t.Errorf("%q %s %v", got, by, err)
	}
	for name, c := range map[string]struct {
		signed, title string
		keys          []Key
	}{
		"another title": {string(signed), "another sort of statement", []Key{signer.Key()}},
		"no key":        {string(signed), title, nil},
		"another text":  {strings.Replace(string(signed), "1", "2", 1), title, []Key{signer.Key()}},
		"a number":      {string(signed), "1042", []Key{signer.Key()}},
	} {
		if got, _, err := OpenStatement([]byte(c.signed), c.title, c.keys...); err == nil {
			t.Errorf("%s: %q", name, got)
		}
	}
	if c, err := ReadCheckpoint(signed); err == nil {
		t.Errorf("it passes for the checkpoint %+v", c)
	}
	checkpoint, err := signer.Sign(Checkpoint{Size: 7})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := OpenStatement(checkpoint, "7", signer.Key()); err == nil {
		t.Error("a checkpoint passes for a statement")
	}
	for _, bad := range []string{"", "7", "a\nb"} {
		if _, err := signer.SignStatement(bad, text); err == nil {
			t.Errorf("the title %q", bad)
		}
	}
	if _, err := signer.SignStatement(title, "no end of line"); err == nil {
		t.Error("a text without its last line's end")
	}
}
