package worker

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// A frame is a length of four bytes, the id of the request in eight, the processor
// time that the answer took in nanoseconds in eight (0 in a request), and the
// message. Numbers are big-endian.
const headerBytes = 4 + 8 + 8

// maxMessage bounds a message in either direction, in bytes. A call has a tighter
// bound for its reply.
const maxMessage = 256 << 20

// errFrame reports bytes that are not a frame of this protocol.
var errFrame = errors.New("not a frame of the worker protocol")

type frame struct {
	id      uint64
	cpu     uint64
	message []byte
}

// appendFrame appends the bytes of a frame.
func appendFrame(b []byte, f frame) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.message)))
	b = binary.BigEndian.AppendUint64(b, f.id)
	b = binary.BigEndian.AppendUint64(b, f.cpu)
	return append(b, f.message...)
}

// readFrame reads one frame whose message is at most limit bytes long. The error
// is io.EOF where the stream ends between two frames.
func readFrame(r io.Reader, limit int) (frame, error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return frame{}, fmt.Errorf("%w: the stream ends within a header", errFrame)
		}
		return frame{}, err
	}
	length := binary.BigEndian.Uint32(header[:])
	if uint64(length) > uint64(limit) {
		return frame{}, fmt.Errorf("%w: a message of %d bytes, and at most %d are accepted", errFrame, length, limit)
	}
	f := frame{id: binary.BigEndian.Uint64(header[4:]), cpu: binary.BigEndian.Uint64(header[12:])}
	// A length is only a claim: memory is allocated as bytes arrive.
	const step = 1 << 20
	f.message = make([]byte, 0, min(int(length), step))
	for len(f.message) < int(length) {
		n := min(int(length)-len(f.message), step)
		f.message = append(f.message, make([]byte, n)...)
		if _, err := io.ReadFull(r, f.message[len(f.message)-n:]); err != nil {
			return frame{}, fmt.Errorf("%w: the stream ends within a message", errFrame)
		}
	}
	return f, nil
}
