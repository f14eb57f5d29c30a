package postgres

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A journal keeps numbered events on the local disk while the database is away.
// It is a file of frames: four bytes of length, four of CRC-32C (RFC 3720
// section 12.1), and so many bytes. The first frame is a [journalHeader], each
// other one the tuple that COPY would have got. A journal belongs to one writer
// and is locked while its process lives. It belongs to one goroutine.
type journal struct {
	folder, writer string
	maxBytes       int64
	maxAge         time.Duration

	file  *os.File // nil: nothing journaled
	size  int64    // of what is known to be on disk
	first time.Time
	frame []byte
}

type journalHeader struct {
	Format  int      `json:"format"`
	Writer  string   `json:"writer"`
	Columns []string `json:"columns"`
}

const (
	journalFormat = 1
	journalSuffix = ".journal"
	// maxFrame is over the longest record that there can be.
	maxFrame = 16 << 20
)

var (
	errJournalFull    = errors.New("the journal is full")
	errJournalDamaged = errors.New("the journal is damaged")
	castagnoli        = crc32.MakeTable(crc32.Castagnoli)
)

func (j *journal) path() string { return filepath.Join(j.folder, j.writer+journalSuffix) }

func (j *journal) empty() bool { return j.file == nil }

// append makes the group durable on the local disk, or leaves the journal as it
// was.
func (j *journal) append(g *group, now time.Time) error {
	if j.file != nil && now.Sub(j.first) > j.maxAge {
		return fmt.Errorf("%w: its first event is older than %s", errJournalFull, j.maxAge)
	}
	j.frame = j.frame[:0]
	if j.file == nil {
		if err := j.create(); err != nil {
			return err
		}
		j.frame, j.first = appendFrame(j.frame, journalStart(j.writer)), now
	}
	for _, r := range g.rows {
		j.frame = appendFrame(j.frame, g.tuple(r))
	}
	if j.size+int64(len(j.frame)) > j.maxBytes {
		return fmt.Errorf("%w: it may hold %d bytes", errJournalFull, j.maxBytes)
	}
	_, err := j.file.WriteAt(j.frame, j.size)
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		// What was written in part has no meaning and is written over, or found
		// to be incomplete by whoever reads it.
		return fmt.Errorf("journal: %w", errors.Join(err, j.file.Truncate(j.size)))
	}
	j.size += int64(len(j.frame))
	return nil
}

func appendFrame(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// create makes the file, and its name durable.
func (j *journal) create() error {
	file, err := os.OpenFile(j.path(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	err = errors.Join(flock(file), syncFolder(j.folder))
	if err != nil {
		return fmt.Errorf("journal: %w", errors.Join(err, file.Close(), os.Remove(j.path())))
	}
	j.file, j.size = file, 0
	return nil
}

// drop removes the file once all of it is in the database.
func (j *journal) drop() error {
	if j.file == nil {
		return nil
	}
	err := errors.Join(j.file.Close(), os.Remove(j.path()), syncFolder(j.folder))
	j.file, j.size = nil, 0
	return err
}

// close leaves the file for the next process.
func (j *journal) close() {
	if j.file != nil {
		_ = j.file.Close() // all that counts was synced
	}
}

func flock(file *os.File) error {
	return syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
}

func syncFolder(path string) error {
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readJournal reads a journal in groups, in order. Where it returns
// errJournalDamaged, all before the damage has been given to each; what was
// never acknowledged, because its write was cut short, looks the same.
func readJournal(r io.Reader, each func(*group) error) error {
	in := bufio.NewReaderSize(r, 64<<10)
	payload, err := readFrame(in, nil)
	if err != nil {
		return fmt.Errorf("read its header: %w", err)
	}
	var header journalHeader
	if err := json.Unmarshal(payload, &header); err != nil || header.Format != journalFormat ||
		header.Writer == "" || !slices.Equal(header.Columns, columns) {
		return fmt.Errorf("%w: its header is not one that this version writes: replay it with the version that wrote it", errJournalDamaged)
	}
	g := newGroup(header.Writer)
	for {
		payload, err = readFrame(in, payload)
		damaged := errors.Is(err, errJournalDamaged)
		if err == nil {
			err = g.addTuple(payload)
			damaged = err != nil
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

// readFrame reads one frame into buffer. At the end of the file it is io.EOF.
func readFrame(r io.Reader, buffer []byte) ([]byte, error) {
	var head [8]byte
	if _, err := io.ReadFull(r, head[:]); err == io.EOF {
		return nil, io.EOF
	} else if err != nil {
		return nil, fmt.Errorf("%w: it ends within a frame", errJournalDamaged)
	}
	size := binary.BigEndian.Uint32(head[:])
	if size > maxFrame {
		return nil, fmt.Errorf("%w: a frame has %d bytes", errJournalDamaged, size)
	}
	buffer = slices.Grow(buffer[:0], int(size))[:size]
	if _, err := io.ReadFull(r, buffer); err != nil {
		return nil, fmt.Errorf("%w: it ends within a frame", errJournalDamaged)
	}
	if crc32.Checksum(buffer, castagnoli) != binary.BigEndian.Uint32(head[4:]) {
		return nil, fmt.Errorf("%w: a frame's checksum is wrong", errJournalDamaged)
	}
	return buffer, nil
}

// addTuple appends a tuple that was made before. It checks its shape, so that
// what reads it later cannot go beyond its end.
func (g *group) addTuple(tuple []byte) error {
	if !isTuple(tuple) {
		return fmt.Errorf("%w: a frame holds no event", errJournalDamaged)
	}
	start := len(g.buffer)
	g.buffer = append(g.buffer, tuple...)
	g.rows = append(g.rows, row{start: start, end: len(g.buffer), time: timeOf(tuple), sequence: sequenceOf(tuple)})
	return nil
}

// isTuple reports whether b is one tuple of our columns, its first two fields
// being the time and the number.
func isTuple(b []byte) bool {
	if len(b) < 2 || int(binary.BigEndian.Uint16(b)) != len(columns) {
		return false
	}
	b = b[2:]
	for i := range columns {
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

// journalStart is the payload of the first frame.
func journalStart(writer string) []byte {
	header, err := json.Marshal(journalHeader{journalFormat, writer, columns})
	if err != nil {
		panic(err) // strings and an int
	}
	return header
}
