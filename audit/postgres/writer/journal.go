package writer

import (
	"cmp"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"syscall"
	"time"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
	"github.com/sallyport/sallyport/internal/durable"
)

// A journal keeps numbered events on the local disk while the database is unavailable.
// It is a file of frames: four bytes of length, four of CRC-32C (RFC 3720
// section 12.1), and so many bytes. The first frame is a [journalHeader], each
// other one the tuple that COPY would have got, their numbers without gaps. A
// journal belongs to one writer and is locked while its process lives. It
// belongs to one goroutine.
type journal struct {
	folder, writer string
	secret         string // authenticates the process that replays it as the writer
	name           string // the file's, without its suffix; empty: the writer's
	spool          bool   // an allow may be durable in the journal alone
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
	Secret  string   `json:"secret"`
	Spool   bool     `json:"spool"`
	Columns []string `json:"columns"`
	// Continues is the writer whose journal this was, and still has the name of:
	// see continueAs.
	Continues string `json:"continues,omitempty"`
}

const (
	journalFormat = 1
	journalSuffix = ".journal"
	// maxFrame is over the longest record that there can be.
	maxFrame = 16 << 20
	// frameHead is the length and the checksum in front of a frame.
	frameHead = 8
)

var (
	errJournalFull    = errors.New("the journal is full")
	errJournalGone    = errors.New("the journal is not in its place any more")
	errJournalDamaged = errors.New("the journal is damaged")
	// errJournalCut is what a process that was killed while it wrote leaves: what
	// is missing was never acknowledged, unless the file was cut afterwards.
	errJournalCut = fmt.Errorf("%w: it ends within a frame", errJournalDamaged)
	castagnoli    = crc32.MakeTable(crc32.Castagnoli)
)

func (j *journal) path() string {
	return filepath.Join(j.folder, cmp.Or(j.name, j.writer)+journalSuffix)
}

func (j *journal) empty() bool { return j.file == nil }

// append makes the group durable on the local disk, or leaves the journal as it
// was.
func (j *journal) append(g *group, now time.Time) error {
	if j.file == nil {
		if err := j.create(); err != nil {
			return err
		}
		j.frame = appendFrame(j.frame[:0], j.header())
		err := j.write(g)
		if err != nil { // a journal without its header could not be read
			return errors.Join(err, j.drop())
		}
		j.first = now
		return nil
	}
	if now.Sub(j.first) > j.maxAge {
		return fmt.Errorf("%w: its first event is older than %s", errJournalFull, j.maxAge)
	}
	if err := j.present(); err != nil {
		return err
	}
	j.frame = j.frame[:0]
	return j.write(g)
}

// write puts what is in frame, and the group behind it, at the journal's end.
func (j *journal) write(g *group) error {
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
		// to be incomplete by every reader.
		return fmt.Errorf("journal: %w", errors.Join(err, j.file.Truncate(j.size)))
	}
	j.size += int64(len(j.frame))
	return nil
}

// present returns an error where the name does not lead to the file any more:
// what is written to a file that was removed is lost with this process.
func (j *journal) present() error {
	ours, err := j.file.Stat()
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	there, err := os.Stat(j.path())
	if err != nil {
		return fmt.Errorf("%w: %w", errJournalGone, err)
	}
	if !os.SameFile(ours, there) {
		return fmt.Errorf("%w: %s is another file", errJournalGone, j.path())
	}
	return nil
}

func appendFrame(b, payload []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(payload, castagnoli))
	return append(b, payload...)
}

// create makes the file, and its name durable. What a file of that name holds
// is in the database: the name is this process's alone.
func (j *journal) create() error {
	file, err := os.OpenFile(j.path(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("journal: %w", err)
	}
	err = errors.Join(flock(file), durable.SyncDirectory(j.folder))
	if err != nil {
		return fmt.Errorf("journal: %w", errors.Join(err, file.Close(), os.Remove(j.path())))
	}
	j.file, j.size = file, 0
	return nil
}

// header is the payload of the first frame.
func (j *journal) header() []byte {
	header, err := json.Marshal(journalHeader{Format: journalFormat, Writer: j.writer, Secret: j.secret, Spool: j.spool, Columns: auditpg.Columns, Continues: j.name})
	if err != nil {
		panic(err) // strings, an int and a bool
	}
	return header
}

// drop removes the file once nothing of it is needed: all of it is in the
// database, or nothing was acknowledged. It is done with whatever the error.
func (j *journal) drop() error {
	if j.file == nil {
		return nil
	}
	err := j.present()
	if err == nil {
		err = errors.Join(os.Remove(j.path()), durable.SyncDirectory(j.folder))
	}
	err = errors.Join(err, j.file.Close())
	j.file, j.size, j.name = nil, 0, ""
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

// openLeft opens a journal that another process of this user has left, and
// nothing else: what is in it is written to the log.
func openLeft(path string) (*os.File, error) {
	// Without NONBLOCK a named pipe is waited for.
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("it is not a file")
	}
	if err == nil {
		if of, ok := info.Sys().(*syscall.Stat_t); !ok || int(of.Uid) != os.Geteuid() {
			err = fmt.Errorf("it is not a file of this user (uid %d), and what is in it would be written to the log", os.Geteuid())
		} else if info.Mode().Perm()&0o002 != 0 {
			err = errors.New("everybody may write to it, and what is in it would be written to the log")
		}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
