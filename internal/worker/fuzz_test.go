package worker

import (
	"bytes"
	"testing"
)

// FuzzReadFrame: what is accepted is written as it was read, within the bound, and
// takes no more memory than there are bytes.
func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(nil, frame{id: 1, cpu: 2, message: []byte("hello")}))
	f.Add(appendFrame(nil, frame{}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Add([]byte("garbage garbage garbage garbage"))
	f.Fuzz(func(t *testing.T, b []byte) {
		const limit = 1 << 16
		got, err := readFrame(bytes.NewReader(b), limit)
		if err != nil {
			return
		}
		if len(got.message) > limit || !bytes.HasPrefix(b, appendFrame(nil, got)) {
			t.Errorf("%d bytes, read from %x", len(got.message), b)
		}
	})
}
