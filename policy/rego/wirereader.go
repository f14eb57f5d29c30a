package rego

import (
	"encoding/binary"
	"errors"
	"fmt"
)

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// wireReader reads the fields of a binary message. After the first error it returns zero
// values.
type wireReader struct {
	rest []byte
	err  error
}

func (r *wireReader) fail(what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", errWire, what)
	}
	r.rest = nil
}

func (r *wireReader) byte() byte {
	if len(r.rest) == 0 {
		r.fail("it ends early")
		return 0
	}
	b := r.rest[0]
	r.rest = r.rest[1:]
	return b
}

func (r *wireReader) uvarint() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.fail("a number")
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *wireReader) varint() int64 {
	n, size := binary.Varint(r.rest)
	if size <= 0 {
		r.fail("a number")
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

// size is a number that fits an int64.
func (r *wireReader) size() int64 {
	n := r.uvarint()
	if n > 1<<63-1 {
		r.fail("a number")
		return 0
	}
	return int64(n)
}

// count is a number of items, at most limit.
func (r *wireReader) count(limit int) int {
	n := r.uvarint()
	if n > uint64(limit) {
		r.fail("too many entries")
		return 0
	}
	return int(n)
}

func (r *wireReader) text() string {
	n := r.uvarint()
	if n > uint64(len(r.rest)) {
		r.fail("a text")
		return ""
	}
	s := string(r.rest[:n])
	r.rest = r.rest[n:]
	return s
}

var errWire = errors.New("not a message of a policy worker")
