package writer

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// Where the columns of a tuple are that the journal checks.
var (
	writerColumn  = slices.Index(auditpg.Columns, "writer")
	kindColumn    = slices.Index(auditpg.Columns, "kind")
	verdictColumn = slices.Index(auditpg.Columns, "verdict")
	causeColumn   = slices.Index(auditpg.Columns, "close_reason")
)

// A journalReader reads a journal from its beginning.
type journalReader struct {
	journalHeader
	in   *bufio.Reader
	last int64 // the number of the last event that was read; 0: none was
}

// continueJournal reads a journal from the middle, behind the event with the number last.
func continueJournal(r io.Reader, writer string, last int64) *journalReader {
	return &journalReader{journalHeader: journalHeader{Writer: writer}, in: bufio.NewReaderSize(r, 64<<10), last: last}
}

// openJournal reads the header. It is io.EOF where there is none: nothing was
// ever acknowledged from such a file.
func openJournal(r io.Reader) (*journalReader, error) {
	in := bufio.NewReaderSize(r, 64<<10)
	payload, err := readFrame(in, nil)
	if err != nil {
		return nil, err
	}
	j := &journalReader{in: in}
	if err := json.Unmarshal(payload, &j.journalHeader); err != nil || j.Format != journalFormat ||
		j.Writer == "" || !slices.Equal(j.Columns, auditpg.Columns) {
		return nil, fmt.Errorf("%w: its header is not one that this version writes: replay it with the version that wrote it", errJournalDamaged)
	}
	return j, nil
}

// each reads the events in groups, in order. Where it returns errJournalDamaged,
// all before the damage has been given to each.
func (j *journalReader) each(each func(*group) error) error {
	g := newGroup(j.Writer)
	var payload []byte
	var err error
	for {
		payload, err = readFrame(j.in, payload)
		damaged := errors.Is(err, errJournalDamaged)
		if err == nil {
			err = g.addTuple(payload, j.last)
			damaged = err != nil
		}
		if err == nil {
			j.last = sequenceOf(payload)
		}
		if err != nil && !damaged && err != io.EOF {
			return err
		}
		if (g.full() || err != nil) && len(g.rows) > 0 {
			if failed := each(g); failed != nil {
				return failed
			}
			g.reset()
		}
		switch {
		case damaged:
			return err
		case err == io.EOF:
			return nil
		}
	}
}

// readFrame reads one frame into buffer. At the end of the file it is io.EOF. An
// error of the disk is returned as it is: what cannot be read may be whole.
func readFrame(r io.Reader, buffer []byte) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, within(err)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("%w: a frame has %d bytes", errJournalDamaged, size)
	}
	buffer = slices.Grow(buffer[:0], int(size))[:size]
	if _, err := io.ReadFull(r, buffer); err != nil {
		return nil, within(err)
	}
	if crc32.Checksum(buffer, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: a frame's checksum is wrong", errJournalDamaged)
	}
	return buffer, nil
}

// within explains an end within a frame.
func within(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return errJournalCut
	}
	return fmt.Errorf("read the journal: %w", err)
}

// addTuple appends a tuple that was made before, and that follows the event with
// the number last (0: it is the first). It checks its shape, so that what reads
// it later cannot go beyond its end.
func (g *group) addTuple(tuple []byte, last int64) error {
	if !isTuple(tuple) {
		return fmt.Errorf("%w: a frame holds no event", errJournalDamaged)
	}
	if field := fieldOf(tuple, writerColumn); string(field) != g.writer {
		return fmt.Errorf("%w: it is of writer %q and holds an event of %q", errJournalDamaged, g.writer, field)
	}
	if n := sequenceOf(tuple); n < 1 || last != 0 && n != last+1 {
		return fmt.Errorf("%w: event %d follows event %d", errJournalDamaged, n, last)
	}
	start := len(g.buffer)
	g.buffer = append(g.buffer, tuple...)
	g.rows = append(g.rows, row{start: start, end: len(g.buffer), time: timeOf(tuple), sequence: sequenceOf(tuple)})
	return nil
}

// isTuple reports whether b is one tuple of our columns, its first two fields
// being the time and the number.
func isTuple(b []byte) bool {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(auditpg.Columns) {
		return false
	}
	b = b[2:]
	for i := range auditpg.Columns {
		if len(b) < 4 {
			return false
		}
		size := int32(binary.BigEndian.Uint32(b))
		b = b[4:]
		if i < 2 && size != 8 || size < -1 || int(size) > len(b) {
			return false
		}
		b = b[max(size, 0):]
	}
	return len(b) == 0
}

// fieldOf is one field of a tuple; nil where it is null.
func fieldOf(tuple []byte, column int) []byte {
	tuple = tuple[2:]
	for i := 0; ; i++ {
		size := int32(binary.BigEndian.Uint32(tuple))
		tuple = tuple[4:]
		if i == column {
			if size < 0 {
				return nil
			}
			return tuple[:size:size]
		}
		tuple = tuple[max(size, 0):]
	}
}
