package writer

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/sallyport/sallyport/internal/durable"
)

// continueAs makes the journal that of another writer: its events get new
// numbers, behind the number last, and it returns the last of these. The file is
// written beside the journal and takes its place and name, so that at every
// moment there is one of the two, and no event is in a second file. Where it
// returns an error the journal is as it was.
func (j *journal) continueAs(writer, secret string, last int64) (int64, error) {
	if j.file == nil {
		j.writer, j.secret = writer, secret
		return last, nil
	}
	next := *j
	next.writer, next.secret = writer, secret
	if next.name == "" {
		next.name = j.writer
	}
	beside := j.path() + ".new"
	file, err := os.OpenFile(beside, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return 0, fmt.Errorf("journal: %w", err)
	}
	next.file = file
	err = flock(file)
	if err == nil {
		next.size, last, err = next.copyFrom(io.NewSectionReader(j.file, 0, j.size), last)
	}
	if err == nil {
		err = j.present()
	}
	if err == nil {
		err = os.Rename(beside, j.path())
	}
	if err != nil {
		return 0, fmt.Errorf("journal: %w", errors.Join(err, file.Close(), os.Remove(beside)))
	}
	_ = j.file.Close() // nothing leads to it any more
	*j = next
	// Where the new content does not survive a crash of the machine the old does,
	// and nothing of it is lost.
	_ = durable.SyncDirectory(j.folder)
	return last, nil
}

// copyFrom fills the file with the events of another journal, numbered behind
// last.
func (j *journal) copyFrom(from io.Reader, last int64) (size, end int64, err error) {
	reader, err := openJournal(from)
	if err != nil {
		return 0, 0, err
	}
	out := bufio.NewWriterSize(j.file, 256<<10)
	write := func(payload []byte) error {
		frame := appendFrame(j.frame[:0], payload)
		j.frame = frame
		size += int64(len(frame))
		_, err := out.Write(frame)
		return err
	}
	if err := write(j.header()); err != nil {
		return 0, 0, err
	}
	err = reader.each(func(g *group) error {
		g.renumber(j.writer, last)
		last += int64(len(g.rows))
		for _, r := range g.rows {
			if err := write(g.tuple(r)); err != nil {
				return err
			}
		}
		g.writer = reader.Writer // of what is read next
		return nil
	})
	return size, last, errors.Join(err, out.Flush(), j.file.Sync())
}
