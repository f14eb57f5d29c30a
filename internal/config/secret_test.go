package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestSecretRead(t *testing.T) {
	directory := t.TempDir()
	for _, c := range []struct{ name, text, want, problem string }{
		{"plain", "swordfish", "swordfish", ""},
		{"newline", "swordfish\n", "swordfish", ""},
		{"carriage return", "swordfish\r\n", "swordfish", ""},
		{"newlines", "swordfish\n\r\n", "swordfish", ""},
		{"space inside", "sword fish", "sword fish", ""},
		{"quote inside", `"sword`, `"sword`, ""},
		{"one quote", `"`, `"`, ""},
		{"spaces", " swordfish", "", "it begins or ends with white space: remove that"},
		{"tab", "swordfish\t\n", "", "it begins or ends with white space: remove that"},
		{"two lines", "sword\nfish\n", "", "it has more than one line: write the secret and nothing else, on one line"},
		{"double quotes", `"swordfish"`, "", "it is in quotes: write the secret without them"},
		{"single quotes", "'swordfish'\n", "", "it is in quotes: write the secret without them"},
		{"byte order mark", "\ufeffswordfish", "", "it begins with a byte order mark: save it as UTF-8 without one"},
		{"UTF-16", "\xff\xfes\x00w\x00", "", "it is UTF-16: save it as UTF-8 without a byte order mark"},
		{"empty", "", "", "it is empty: write the secret into it, on one line"},
		{"blank", " \n", "", "it is empty: write the secret into it, on one line"},
		{"NUL", "sword\x00fish", "", "it contains a NUL byte: save it as plain text in UTF-8"},
		{"large", strings.Repeat("x", maxSecret+1), "", "it is larger than 64 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(directory, c.name)
			writeFile(t, file, c.text)
			got, err := Secret{file: file}.Read()
			if got != c.want || (err == nil) != (c.problem == "") {
				t.Fatalf("got %q, %v", got, err)
			}
			if err != nil && err.Error() != "config: read the secret in "+file+": "+c.problem {
				t.Errorf("error %q", err)
			}
		})
	}
}

// TestSecretIsReadWhenAsked rotates a secret between two reads.
func TestSecretIsReadWhenAsked(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	s := Secret{file: file}
	for _, want := range []string{"first", "second"} {
		writeFile(t, file, want+"\n")
		if got, err := s.Read(); got != want || err != nil {
			t.Errorf("got %q, %v; want %q", got, err, want)
		}
	}
}

// TestSecretNeverWaits names what cannot be read to an end: a FIFO without a writer would hold up the start forever.
func TestSecretNeverWaits(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{fifo, "/dev/zero"} {
		if _, err := (Secret{file: file}).Read(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: got %v", file, err)
		}
	}
}

func TestNoSecret(t *testing.T) {
	if _, err := (Secret{}).Read(); err == nil {
		t.Error("the zero Secret can be read")
	}
	if _, err := (Secret{env: "SALLYPORT_TEST_NEVER_SET"}).Read(); err == nil {
		t.Error("an unset variable can be read")
	}
}

// TestSecretRedactsItself formats a secret, and a struct that holds it, in every way that logs and errors do.
func TestSecretRedactsItself(t *testing.T) {
	t.Setenv("SALLYPORT_TEST_SECRET", "swordfish")
	file := filepath.Join(t.TempDir(), "token")
	writeFile(t, file, "swordfish\n")
	for _, s := range []Secret{{file: file}, {env: "SALLYPORT_TEST_SECRET"}, {}} {
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
			fmt.Fprintf(&out, verb, s)
			fmt.Fprintf(&out, verb, &API{Token: s})
		}
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", s, "api", API{Token: s})
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", s, "api", API{Token: s})
		text, err := json.Marshal(map[string]any{"secret": s, "api": API{Token: s}})
		if err != nil {
			t.Fatal(err)
		}
		out.Write(text)
		if strings.Contains(out.String(), "swordfish") || strings.Contains(out.String(), fmt.Sprintf("%x", "swordfish")) {
			t.Errorf("the secret is shown: %s", out.String())
		}
		if !strings.Contains(out.String(), s.String()) {
			t.Errorf("%q is not shown", s.String())
		}
	}
}
