package policy

import "strconv"

// Content is the snapshot as one string of bytes, for whoever keeps policies: the
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
