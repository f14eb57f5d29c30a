package proxy

import (
	"io"
	"sync"
)

// relayBuffered moves bytes through a buffer of ours: the way for whatever is
// not a bare TCP connection on both sides. It waits with a small one, for there
// may be thousands that wait, and takes a large one while it is worth it.
func (t *tunnel) relayBuffered(dst io.Writer, src io.Reader, d *meter) ending {
	small := make([]byte, 2<<10)
	buf := small
	var large *[]byte
	defer func() {
		if large != nil {
			buffers.Put(large)
		}
	}()
	for {
		room := d.room(len(buf))
		n, err := src.Read(buf[:max(room, 1)])
		if n > 0 {
			granted := d.reserve(n)
			if granted == 0 {
				return ending{limit: true}
			}
			t.touch()
			m, werr := dst.Write(buf[:granted])
			d.unreserve(granted - m)
			if werr != nil {
				return ending{err: werr, wrote: true}
			}
			if granted < n {
				return ending{limit: true}
			}
			switch {
			case large == nil && n == len(small):
				large = buffers.Get().(*[]byte)
				buf = *large
			case large != nil && n < len(small):
				buffers.Put(large)
				large, buf = nil, small
			}
		}
		if err == io.EOF {
			return ending{}
		}
		if err != nil {
			return ending{err: err}
		}
	}
}

const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any {
	b := make([]byte, bufferSize)
	return &b
}}
