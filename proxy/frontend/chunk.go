package frontend

import (
	"bytes"
	"errors"
	"io"

	"github.com/sallyport/sallyport/proxy"
)

// A chunked body (RFC 9112 section 7.1) is read as strictly as a head: a recipient that
// finds another end in it sees a second request where we see content.

const (
	maxChunkLine   = 256      // a chunk's size and extensions
	maxChunkExcess = 16 << 10 // what is not content, beyond a few bytes a chunk (CVE-2023-39326)
	maxTrailer     = 4 << 10  // all trailer fields together
)

// chunked decodes a chunked body. It reads from the connection's buffer.
type chunked struct {
	in      lines
	left    int64 // of the current chunk
	started bool  // a chunk's CRLF is due before the next size
	excess  int64
	trailer int
}

// lines is where a chunked body comes from.
type lines interface {
	// line returns the next line without its CRLF, of at most limit bytes.
	line(limit int) ([]byte, error)
	// read fills p with at least a byte of what comes next.
	read(p []byte) (int, error)
}

// errChunk is a body that has no single meaning. Its text may be shown.
type errChunk string

func (e errChunk) Error() string { return "frontend: request body: " + string(e) }

// Refusal is the answer to such a body.
func (e errChunk) Refusal() *proxy.Refusal { return malformed(string(e)) }

func (d *chunked) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if d.left == 0 {
		if err := d.next(); err != nil {
			return 0, err
		}
	}
	n, err := d.in.read(p[:min(int64(len(p)), d.left)])
	d.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// next reads the size line of the next chunk. It returns io.EOF behind the last
// chunk and its trailer.
func (d *chunked) next() error {
	if d.started {
		end, err := d.in.line(0)
		if err != nil {
			return errOr(err, "a chunk is longer than its size")
		}
		if len(end) != 0 {
			return errChunk("a chunk is longer than its size")
		}
	}
	line, err := d.in.line(maxChunkLine)
	if err != nil {
		return errOr(err, "a chunk's size line is too long or ends with a bare line feed")
	}
	size, err := chunkSize(line)
	if err != nil {
		return err
	}
	// A few bytes a chunk are the framing; many bytes of extensions around single bytes
	// of content are an attack on the reader.
	if d.excess = max(0, d.excess+int64(len(line))-16-2*size); d.excess > maxChunkExcess {
		return errChunk("there is too much framing around too little content")
	}
	d.started, d.left = true, size
	if size > 0 {
		return nil
	}
	return d.readTrailer()
}

// chunkSize reads chunk-size [ chunk-ext ].
func chunkSize(line []byte) (int64, error) {
	var size int64
	i := 0
	for ; i < len(line); i++ {
		digit := unhex(line[i])
		if digit < 0 {
			break
		}
		if size = size<<4 | int64(digit); i >= 15 {
			return 0, errChunk("a chunk's size is out of range")
		}
	}
	if i == 0 {
		return 0, errChunk("a chunk's size is not a hexadecimal number")
	}
	extension := line[i:]
	if len(extension) == 0 {
		return size, nil
	}
	if t := trimOWS(extension); len(t) == 0 || t[0] != ';' {
		return 0, errChunk("a chunk's size is not a hexadecimal number")
	}
	for _, c := range extension {
		if c < 0x20 && c != '\t' || c == 0x7f {
			return 0, errChunk("a chunk extension holds a control byte")
		}
	}
	return size, nil
}

// readTrailer reads the fields behind the last chunk. They are checked and then dropped,
// as RFC 9110 section 6.5.1 allows: no decision covers them.
func (d *chunked) readTrailer() error {
	for {
		line, err := d.in.line(maxTrailer)
		if err != nil {
			return errOr(err, "a trailer line is too long or ends with a bare line feed")
		}
		if len(line) == 0 {
			return io.EOF
		}
		if d.trailer += len(line) + 2; d.trailer > maxTrailer {
			return errChunk("the trailer is too long")
		}
		name, value, found := bytes.Cut(line, []byte{':'})
		if !found || !isToken(name) {
			return errChunk("a trailer line is not a header field")
		}
		for _, c := range value {
			if c < 0x20 && c != '\t' || c == 0x7f {
				return errChunk("a trailer field's value holds a control byte")
			}
		}
	}
}

// errOr keeps an error of the connection and puts words to one of the line.
func errOr(err error, detail string) error {
	switch err {
	case errLine:
		return errChunk(detail)
	case io.EOF:
		return io.ErrUnexpectedEOF
	}
	return err
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// errLine is a line that is too long or does not end with CRLF.
var errLine = errors.New("frontend: not a line")
