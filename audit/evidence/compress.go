package evidence

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"runtime"
)

// compressedBlock is how much of a file becomes one gzip member. Members follow one
// another (RFC 1952 section 2.2), so that any gunzip reads them as one file, and each
// is compressed beside the others. The block, the level and the empty header make the
// same bytes each time, as far as compress/gzip does.
const compressedBlock = 1 << 20

// compressor compresses what is written to it. It is used by one goroutine.
type compressor struct {
	out    io.Writer
	sum    hash.Hash
	size   int64
	block  []byte
	order  chan chan []byte
	done   chan error
	closed bool
}

func newCompressor(out io.Writer) *compressor {
	c := &compressor{out: out, sum: sha256.New(), order: make(chan chan []byte, runtime.GOMAXPROCS(0)), done: make(chan error, 1)}
	go func() {
		var failed error
		for member := range c.order {
			if b := <-member; failed == nil {
				_, failed = out.Write(b)
			}
		}
		c.done <- failed
	}()
	return c
}

// Write never fails: an error of the file comes back from close.
func (c *compressor) Write(b []byte) (int, error) {
	c.sum.Write(b)
	c.size += int64(len(b))
	for rest := b; len(rest) > 0; {
		if c.block == nil {
			c.block = make([]byte, 0, compressedBlock)
		}
		n := min(len(rest), compressedBlock-len(c.block))
		c.block = append(c.block, rest[:n]...)
		if rest = rest[n:]; len(c.block) == compressedBlock {
			c.member()
		}
	}
	return len(b), nil
}

// member compresses the block. As many are on their way as there are processors.
func (c *compressor) member() {
	block, done := c.block, make(chan []byte, 1)
	c.block = nil
	c.order <- done
	go func() { done <- compressed(block) }()
}

func compressed(block []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	_, _ = z.Write(block) // a buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// close ends the file, and returns the size and the digest of its content.
func (c *compressor) close() (size int64, digest string, err error) {
	if c.closed {
		return 0, "", nil
	}
	c.closed = true
	if len(c.block) > 0 || c.size == 0 {
		c.member()
	}
	close(c.order)
	return c.size, hex.EncodeToString(c.sum.Sum(nil)), <-c.done
}
