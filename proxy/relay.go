package proxy

import (
	"io"
	"sync"
)

// relayBuffered copies bytes through a buffer, where one side is not a bare TCP
// connection. It waits with a small buffer, because thousands of tunnels may wait, and
// uses a large one during a stream.
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
		allowed := d.allowance(len(buf))
		n, err := src.Read(buf[:max(allowed, 1)])
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
