// Package stepbinaries reads the builds of sallyport-step that the server offers to steps.
//
// A directory has each build under its name, such as linux-amd64, and beside it the file
// linux-amd64.sha256, as `make step` writes them. A build is offered only if its digest is
// the one in that file. During a replacement of the files the previous build is offered.
package stepbinaries

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// Names are the names of the builds.
var Names = []string{"linux-amd64", "linux-arm64"}

// SumSuffix is the end of the name of the file that has a build's digest.
const SumSuffix = ".sha256"

// maxBuild bounds a build in bytes: the server keeps each in memory.
const maxBuild = 64 << 20

// ErrUnknown is the error for a name that is not in [Names].
var ErrUnknown = errors.New("not the name of a build of sallyport-step")

// Build is one build. It does not change.
type Build struct {
	Content []byte
	SHA256  string // in lower-case hexadecimal
}

// Directory is the directory of the builds. It is safe for concurrent use.
type Directory struct {
	path string

	mu    sync.Mutex
	known map[string]*state
}

// state is what was read of one build.
type state struct {
	build *Build // the latest whose digest was right; nil: none
	err   error  // of the latest reading
	stamp [2]stamp
}

// stamp identifies a version of a file.
type stamp struct {
	modified time.Time
	size     int64
}

// New returns the directory at a path. Nothing is read before the first call of
// [Directory.Build].
func New(path string) *Directory { return &Directory{path: path, known: map[string]*state{}} }

// Build returns a build by its name. The files are read again when they have changed. If the
// present files do not fit together, it returns the previous build, or an error if there is
// none.
func (d *Directory) Build(name string) (*Build, error) {
	if !slices.Contains(Names, name) {
		return nil, ErrUnknown
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.known[name]
	if s == nil {
		s = &state{}
		d.known[name] = s
	}
	now, err := d.stamps(name)
	if err == nil && now == s.stamp {
		err = s.err
	} else if err == nil {
		s.stamp = now
		var b *Build
		if b, err = d.read(name); err == nil {
			s.build = b
		}
		s.err = err
	}
	if s.build != nil {
		return s.build, nil
	}
	return nil, err
}

// Check returns an error for each build that cannot be offered.
func (d *Directory) Check() (problems []error) {
	for _, name := range Names {
		if _, err := d.Build(name); err != nil {
			problems = append(problems, err)
		}
	}
	return problems
}

func (d *Directory) stamps(name string) (s [2]stamp, err error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return s, fmt.Errorf("step_binaries: %w: create the directory, or remove the key", err)
	}
	defer root.Close()
	for i, file := range []string{name, name + SumSuffix} {
		info, err := root.Stat(file)
		if err != nil {
			return s, fmt.Errorf("step_binaries: %w: copy it from bin/step, which `make step` writes", err)
		}
		s[i] = stamp{info.ModTime(), info.Size()}
	}
	return s, nil
}

func (d *Directory) read(name string) (*Build, error) {
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, fmt.Errorf("step_binaries: %w", err)
	}
	defer root.Close()
	content, err := readFile(root, name, maxBuild)
	if err != nil {
		return nil, err
	}
	sum, err := readFile(root, name+SumSuffix, 1<<10)
	if err != nil {
		return nil, err
	}
	stated, _, _ := strings.Cut(strings.TrimSpace(string(sum)), " ")
	digest := sha256.Sum256(content)
	actual := hex.EncodeToString(digest[:])
	if strings.ToLower(stated) != actual {
		return nil, fmt.Errorf("step_binaries: %s has not the SHA-256 in %s: copy both files of one build", name, name+SumSuffix)
	}
	return &Build{Content: content, SHA256: actual}, nil
}

// readFile reads a regular file inside the directory: a link that leads out of it is an
// error.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, fmt.Errorf("step_binaries: %w: let the user that runs sallyport read it", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, fmt.Errorf("step_binaries: %s is not a regular file", name)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("step_binaries: read %s: %w", name, err)
	case int64(len(b)) > limit:
		return nil, fmt.Errorf("step_binaries: %s is longer than %d bytes", name, limit)
	}
	return b, nil
}
