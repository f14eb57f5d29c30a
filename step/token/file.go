package token

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
)

// File returns the token in a file, which is read again after it changed. A path of a link
// is followed at each read, as Kubernetes replaces projected tokens by links. A file that
// cannot be read any more is an error, and so is its token: the previous token is not kept,
// because its removal may be intended. File reads the file, and returns an error if it has
// no token.
func File(path string) (Source, error) {
	f := &file{path: path}
	if _, err := f.Token(context.Background()); err != nil {
		return nil, err
	}
	return f, nil
}

type file struct {
	path string

	mu    sync.Mutex
	info  fs.FileInfo // of the content that was read; nil: none
	token Token
}

// Token stats the file at each call: this is cheap next to a connection, and a rotation
// takes effect at once.
func (f *file) Token(context.Context) (Token, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.path)
	if err == nil && f.info != nil && sameContent(f.info, info) {
		return f.token, nil
	}
	t, info, err := readFile(f.path)
	if err != nil {
		f.info = nil
		return Token{}, fmt.Errorf("token file %q: %w: check the file and its permissions", f.path, err)
	}
	f.token, f.info = t, info
	return t, nil
}

func (f *file) Renew(ctx context.Context, _ Token) (Token, error) {
	f.mu.Lock()
	f.info = nil // a write within the granularity of the clock is found
	f.mu.Unlock()
	return f.Token(ctx)
}

func sameContent(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// readFile reads a token and the description of the file that has it. Opening does not
// block on a pipe, and only a regular file is read.
func readFile(path string) (Token, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Token{}, nil, withoutPath(err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return Token{}, nil, withoutPath(err)
	}
	if !info.Mode().IsRegular() {
		return Token{}, nil, errors.New("not a regular file")
	}
	b, err := io.ReadAll(io.LimitReader(f, int64(MaxBytes)+1024))
	if err != nil {
		return Token{}, nil, withoutPath(err)
	}
	t, err := Parse(string(b))
	return t, info, err
}

// withoutPath returns the cause of an error that names the path a second time.
func withoutPath(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}
