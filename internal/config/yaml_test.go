package config

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// TestFileAsAWhole feeds what is not a configuration file at all, or only just one.
func TestFileAsAWhole(t *testing.T) {
	deep := strings.Repeat("[", 500_000)
	dashes := strings.Repeat("- ", 500_000)
	var bomb strings.Builder
	bomb.WriteString("a0: &a0 [x, x]\n")
	for _, pair := range []string{"0 1", "1 2", "2 3", "3 4", "4 5", "5 6", "6 7", "7 8", "8 9"} {
		from, to, _ := strings.Cut(pair, " ")
		bomb.WriteString("a" + to + ": &a" + to + " [" + strings.Repeat("*a"+from+", ", 10) + "]\n")
	}
	_, file := newDirectory(t)
	for _, c := range []struct{ name, text, want string }{
		{"byte order mark", "\ufeff" + minimal, ""},
		{"Windows line ends", strings.ReplaceAll(minimal, "\n", "\r\n"), ""},
		{"document marks", "---\n" + minimal + "...\n", ""},
		{"comment after the end", minimal + "...\n# that was it\n", ""},
		{"empty section", minimal + "egress:\n  # resolvers: []\n", ""},
		{"flow style", "{listeners: [{address: \"127.0.0.1:1\"}], policy: {directory: .}, audit: {embedded: true},\n identity: {bitbucket: [{workspace: a, workspace_uuid: 922e118c-f34f-4226-a897-0e0afbec553d, issuer: \"https://i.example\", audiences: [x]}]}}\n", ""},
		{"empty", "", ": the file is empty;"},
		{"null", "~\n", ":1:1: audit: the key is required and missing;"},
		{"text", "hello\n", ":1:1: want a mapping of keys to values, found text;"},
		{"UTF-16", "\xff\xfel\x00i\x00", ":1:1: the file is UTF-16; save the file as UTF-8"},
		{"UTF-16, big end first", "\xfe\xff\x00l\x00i", ":1:1: the file is UTF-16; save the file as UTF-8"},
		{"latin-1", "# caf\xe9\n", ":1:6: the file is not UTF-8;"},
		{"NUL", "a: \x00\n", ":1:4: the invisible character U+0000 is not allowed;"},
		{"escaped NUL", minimal + "data_directory: \"a\\0b\"\n", ":10:17: data_directory: the value contains an invisible character;"},
		{"right-to-left override", "# \u202e\n", ":1:3: the invisible character U+202E is not allowed;"},
		{"zero-width space in a key", "list\u200beners: []\n", ":1:5: the invisible character U+200B is not allowed;"},
		{"old Mac line ends", "a: b\rc: d\r", ":1:5: a carriage return stands alone;"},
		{"tab before a comment", minimal + "log: {format: text}\t# as text\n", ""},
		{"after the end", minimal + "...\nlog: {}\n", ":11:1: a second document begins here;"},
		{"too large", minimal + strings.Repeat("#", maxSize), ": the file is larger than 1 MiB;"},
		{"too many keys", strings.Repeat("a: b\n", 200_000), ":16667:4: the file is too large"},
		{"too deep", deep, ":1:21: nested deeper than 20 levels;"},
		{"too many dashes", dashes, ":1:41: nested deeper than 20 levels;"},
		{"alias bomb", bomb.String(), ":1:5: anchors (&) are not supported;"},
		{"position behind Windows line ends", "# one\r\n\r\n# two\r\nlog: {format: x}\r\n", ":4:15: log.format: want json or text, found \"x\""},
		{"position behind wide characters", "log: {\"größe\": 1, format: x}\n", ":1:27: log.format: want json or text, found \"x\""},
	} {
		t.Run(c.name, func(t *testing.T) {
			started := time.Now()
			_, err := Parse(file, []byte(c.text))
			if took := time.Since(started); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
			if c.want == "" {
				if err != nil {
					t.Fatalf("refused:\n%v", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), "sallyport.yaml"+c.want) {
				t.Errorf("got %v\nwant …%s", err, c.want)
			}
		})
	}
}

// TestNoSourceExcerpt checks that a line with a syntax error is pointed at and not printed: the library's own messages
// carry the lines around it.
func TestNoSourceExcerpt(t *testing.T) {
	for _, text := range []string{
		"token: swordfish: swordfish\n",
		"token: swordfish\n  more: swordfish\n",
		"token: [swordfish\nswordfish: 1\n",
		"token: 'swordfish\n",
		"token: swordfish\nswordfish\n",
		"token: @swordfish\n",
		"? swordfish\n",
		"!swordfish x\n",
		"swordfish: 1\nswordfish: 2\n- swordfish\n",
		"a: {swordfish}}\n",
	} {
		_, err := Parse("sallyport.yaml", []byte(text))
		errs, ok := errors.AsType[Errors](err)
		if !ok {
			t.Errorf("%q: got %v", text, err)
			continue
		}
		for _, e := range errs {
			if strings.Contains(e.Message+e.Hint, "swordfish") {
				t.Errorf("%q: the message shows the source: %v", text, e)
			}
		}
	}
}
