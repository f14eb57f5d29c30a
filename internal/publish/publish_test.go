package publish

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/proxytest"
)

func checkpoint(t *testing.T, size int64) []byte {
	t.Helper()
	private, err := audit.GenerateKey("log.example/a")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	note, err := signer.Sign(audit.Checkpoint{Size: size, Time: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	return note
}

func size(t *testing.T, note []byte) int64 {
	t.Helper()
	if note == nil {
		return 0
	}
	c, err := audit.ReadCheckpoint(note)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size
}

func TestFile(t *testing.T) {
	f := NewFile(filepath.Join(t.TempDir(), "checkpoints"))
	latest := func() int64 {
		t.Helper()
		notes, err := f.Recent(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return size(t, audit.LatestCheckpoint(notes))
	}
	if latest() != 0 {
		t.Error("a file that is not there has a checkpoint")
	}
	for n := range int64(500) { // more than is read back
		if err := f.Publish(t.Context(), checkpoint(t, n+1)); err != nil {
			t.Fatal(err)
		}
	}
	if got := latest(); got != 500 {
		t.Errorf("latest %d", got)
	}
	// The machine fails in the middle of a write.
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	torn := checkpoint(t, 501)
	if _, err := file.Write(torn[:len(torn)-20]); err != nil {
		t.Fatal(err)
	}
	file.Close()
	if got := latest(); got != 500 {
		t.Errorf("latest %d", got)
	}
	if err := f.Publish(t.Context(), checkpoint(t, 502)); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(f.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := latest(); got != 502 || len(audit.SplitCheckpoints(text)) != 501 {
		t.Errorf("latest %d, %d in all", got, len(audit.SplitCheckpoints(text)))
	}
	if err := NewFile(t.TempDir()).Publish(t.Context(), torn); err == nil {
		t.Error("published to a directory")
	}
}

func TestWriter(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter("standard output", &out)
	for n := range int64(2) {
		if err := w.Publish(t.Context(), checkpoint(t, n+1)); err != nil {
			t.Fatal(err)
		}
	}
	if notes := audit.SplitCheckpoints(out.Bytes()); len(notes) != 2 {
		t.Errorf("%q", out.String())
	}
}

// TestSwitchingProtocolsIsAnError: the body of such a response has no end.
func TestSwitchingProtocolsIsAnError(t *testing.T) {
	u, err := url.Parse(proxytest.Switching(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := NewHTTP(u, nil).Publish(t.Context(), checkpoint(t, 7)); err == nil || !strings.Contains(err.Error(), "101") {
		t.Error(err)
	}
}

func TestHTTP(t *testing.T) {
	status, got := http.StatusCreated, ""
	var header http.Header
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got, header = string(body), r.Header
		if status == http.StatusFound {
			w.Header().Set("Location", "http://elsewhere.example/")
		}
		w.WriteHeader(status)
	}))
	defer server.Close()
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:9")
	u, err := url.Parse(server.URL + "/log")
	if err != nil {
		t.Fatal(err)
	}
	h := NewHTTP(u, func() (string, error) { return "s3cret", nil })
	note := checkpoint(t, 7)
	if err := h.Publish(t.Context(), note); err != nil || got != string(note) || header.Get("Authorization") != "Bearer s3cret" {
		t.Errorf("%v: %q %v", err, got, header)
	}
	for _, status = range []int{302, 400, 503} {
		if err := h.Publish(t.Context(), note); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%d: %v", status, err)
		}
	}
}
