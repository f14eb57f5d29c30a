package cli

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestProgressIsForTerminals: a file and a pipe get no progress, and no command
// reports any before progressInterval.
func TestProgressIsForTerminals(t *testing.T) {
	t.Parallel()
	file, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	for name, out := range map[string]io.Writer{"a file": file, "a buffer": new(bytes.Buffer)} {
		if p := NewProgress(out, false); p.Out != io.Discard {
			t.Errorf("%s gets progress", name)
		}
	}
	var out bytes.Buffer
	p := &Progress{Out: &out, Began: time.Now(), last: time.Now().Add(time.Hour), Total: 200}
	p.Show(10)
	if out.Len() > 0 {
		t.Errorf("at once: %s", &out)
	}
	p.last = time.Now().Add(-progressInterval)
	p.Show(100)
	if !strings.HasPrefix(out.String(), "100 of 200 events (50 %), ") {
		t.Errorf("later: %q", &out)
	}
	(*Progress)(nil).Show(1)
}
