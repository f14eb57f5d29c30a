// Package publish writes checkpoints of the audit log to places that a user who can
// change the database cannot change: a file, standard output, an HTTP endpoint.
package publish

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/durable"
)

// File appends to a file, each checkpoint followed by an empty line, and waits
// for the disk. The file is opened for each, so that it may be rotated, and only
// ever appended to, so that it may be append-only (chattr +a).
type File struct{ path string }

// NewFile returns the place of a file, which need not exist yet.
func NewFile(path string) *File { return &File{path} }

// Name is the file's.
func (f *File) Name() string { return f.path }

// tail is how much of a file is read back: a few hundred checkpoints.
const tail = 64 << 10

// Recent returns the checkpoints near the end of the file.
func (f *File) Recent(context.Context) ([][]byte, error) {
	file, err := os.Open(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.NewSectionReader(file, max(info.Size()-tail, 0), tail))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", f.path, err)
	}
	return audit.SplitCheckpoints(text), nil
}

// Publish appends the note. What a crash cut off before it stays where it is,
// and is passed over by those who read.
func (f *File) Publish(_ context.Context, note []byte) (err error) {
	_, err = os.Stat(f.path)
	fresh := errors.Is(err, fs.ErrNotExist)
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	text := append(bytes.Clone(note), '\n')
	last := make([]byte, 1)
	if n, _ := file.ReadAt(last, info.Size()-1); info.Mode().IsRegular() && n == 1 && last[0] != '\n' {
		text = append([]byte("\n\n"), text...)
	}
	if _, err := file.Write(text); err != nil {
		return err
	}
	if err := file.Sync(); err != nil {
		return err
	}
	if !fresh {
		return nil
	}
	return durable.SyncDirectory(filepath.Dir(f.path))
}

// Writer writes to a stream, such as standard output, which cannot be read back.
type Writer struct {
	name string
	mu   sync.Mutex
	w    io.Writer
}

// NewWriter returns the place of a stream.
func NewWriter(name string, w io.Writer) *Writer { return &Writer{name: name, w: w} }

// Name is what it was given.
func (w *Writer) Name() string { return w.name }

// Recent returns nothing.
func (w *Writer) Recent(context.Context) ([][]byte, error) { return nil, nil }

// Publish writes the note and an empty line.
func (w *Writer) Publish(_ context.Context, note []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err := w.w.Write(append(bytes.Clone(note), '\n'))
	return err
}

// HTTP sends each checkpoint to an endpoint: POST, text/plain, the note as the
// body. Any 2xx response means that it is kept.
type HTTP struct {
	url    *url.URL
	token  func() (string, error) // nil: none
	client *http.Client
}

// NewHTTP returns the place of an endpoint. token is read for each request, and
// sent as a bearer token; nil: none is.
func NewHTTP(u *url.URL, token func() (string, error)) *HTTP {
	// Neither the environment's proxy nor a redirect leads a token elsewhere.
	transport := &http.Transport{MaxIdleConns: 1, IdleConnTimeout: 30 * time.Second, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true}
	return &HTTP{url: u, token: token, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("it redirects, which is not followed") },
	}}
}

// Name is the URL.
func (h *HTTP) Name() string { return h.url.Redacted() }

// Recent returns nothing: an endpoint is not read back.
func (h *HTTP) Recent(context.Context) ([][]byte, error) { return nil, nil }

// Publish sends the note.
func (h *HTTP) Publish(ctx context.Context, note []byte) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url.String(), bytes.NewReader(note))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "text/plain; charset=utf-8")
	r.Header.Set("User-Agent", "sallyport")
	if h.token != nil {
		token, err := h.token()
		if err != nil {
			return err
		}
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := h.client.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusSwitchingProtocols { // then the body is the connection, whose reads do not end with ctx
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("it answered %s", resp.Status)
	}
	return nil
}
