package policy

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// Content is the snapshot as one string of bytes, for a store of policies: the
// bytes whose SHA-256 the digest is (see [NewSnapshot]), so that what is kept can
// be checked without knowing more.
func (s *Snapshot) Content() []byte {
	size := 0
	for _, f := range s.Files {
		size += len(f.Path) + len(f.Content) + 24
	}
	b := make([]byte, 0, size)
	for _, f := range s.Files {
		b = append(b, f.Path...)
		b = append(b, 0)
		b = strconv.AppendInt(b, int64(len(f.Content)), 10)
		b = append(b, 0)
		b = append(b, f.Content...)
	}
	return b
}

// ParseContent reads what [Snapshot.Content] wrote. It refuses everything else,
// so that its digest is that of the bytes themselves. The snapshot's files share
// the memory of content.
func ParseContent(content []byte, commit string) (*Snapshot, error) {
	var files []File
	for rest := content; len(rest) > 0; {
		path, after, ok := bytes.Cut(rest, []byte{0})
		if !ok {
			return nil, errors.New("policy: the content ends within a path")
		}
		length, after, ok := bytes.Cut(after, []byte{0})
		size, err := strconv.ParseUint(string(length), 10, 31)
		if !ok || err != nil || strconv.FormatUint(size, 10) != string(length) {
			return nil, fmt.Errorf("policy: the content has no length after %.100q", path)
		}
		if uint64(len(after)) < size {
			return nil, fmt.Errorf("policy: the content ends within %.100q", path)
		}
		name := string(path)
		if n := len(files); n > 0 && files[n-1].Path >= name {
			return nil, fmt.Errorf("policy: %.100q is out of order", name)
		}
		files = append(files, File{Path: name, Content: after[:size:size]})
		rest = after[size:]
	}
	return NewSnapshot(files, commit)
}
