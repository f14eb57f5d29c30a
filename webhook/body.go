package webhook

import (
	"errors"
	"io"
	"net/netip"
)

// errNoMemory is returned if the memory that bodies may use is reserved.
var errNoMemory = errors.New("the memory for bodies is used up")

// firstBody is the size of a body's first buffer, in bytes.
const firstBody = 8 << 10

// body is the body of one request, and the memory that is reserved for it. Memory is
// reserved as bytes arrive: a request that announces a large body and does not send it
// uses none of the memory of others.
type body struct {
	bytes    []byte
	client   netip.Addr
	reserve  func(netip.Addr, int64) (release func(), ok bool)
	releases []func()
}

// read reads r to its end.
func (b *body) read(r io.Reader) error {
	for {
		if len(b.bytes) == cap(b.bytes) {
			if err := b.grow(); err != nil {
				return err
			}
		}
		n, err := r.Read(b.bytes[len(b.bytes):cap(b.bytes)])
		b.bytes = b.bytes[:len(b.bytes)+n]
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// grow doubles the buffer.
func (b *body) grow() error {
	size := max(2*cap(b.bytes), firstBody)
	if b.reserve != nil {
		release, ok := b.reserve(b.client, int64(size-cap(b.bytes)))
		if !ok {
			return errNoMemory
		}
		b.releases = append(b.releases, release)
	}
	grown := make([]byte, len(b.bytes), size)
	copy(grown, b.bytes)
	b.bytes = grown
	return nil
}

// release releases the reserved memory.
func (b *body) release() {
	for _, release := range b.releases {
		release()
	}
	b.releases = nil
}
