package evidence

import (
	"bufio"
	"bytes"
	"cmp"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/evidence/report"
)

// A spool keeps the decisions of the population and their ends while the log goes by
// in the order of its tree, because the population is in the order of time. The
// records are in a scratch file, and in memory some eighty bytes for each decision.
// It is used by one goroutine.
type spool struct {
	file    *os.File
	out     *bufio.Writer
	size    int64
	list    []spooled
	numbers map[string]int32 // of writers, in names
	names   []string
	open    map[string]int32 // decisions without an end, by id: the latest in list
	early   map[string]place // ends that came before their decisions
	err     error
}

// place is where a record is, and its leaf.
type place struct {
	leaf, offset int64
	length       int32
}

type spooled struct {
	at, sequence int64
	record, end  place // end.leaf is -1 where there is none
	writer       int32
	same         int32 // the decision before with the same id and without an end; -1: none
}

// newSpool makes a spool. The file is scratch.
func newSpool(file *os.File) *spool {
	return &spool{
		file: file, out: bufio.NewWriterSize(file, 1<<18), numbers: make(map[string]int32), open: make(map[string]int32), early: make(map[string]place),
	}
}

func (s *spool) append(leaf int64, record []byte) place {
	p := place{leaf: leaf, offset: s.size, length: int32(len(record))}
	if _, err := s.out.Write(record); err != nil && s.err == nil {
		s.err = fmt.Errorf("keep the population: %w", err)
	}
	s.size += int64(len(record))
	return p
}

// decision takes a decision of the population.
func (s *spool) decision(leaf int64, writer string, sequence int64, at time.Time, record []byte) {
	number, known := s.numbers[writer]
	if !known {
		number = int32(len(s.names))
		s.numbers[writer] = number
		s.names = append(s.names, writer)
	}
	d := spooled{at: at.UnixMicro(), sequence: sequence, record: s.append(leaf, record), end: place{leaf: -1}, writer: number, same: -1}
	if id := idOf(record); id != "" {
		if end, ok := s.early[id]; ok {
			d.end = end
		} else {
			if before, ok := s.open[id]; ok {
				d.same = before
			}
			s.open[id] = int32(len(s.list))
		}
	}
	s.list = append(s.list, d)
}

// end takes the end of a decision. One that is older than the period, by more than
// clocks differ, is of a decision that is so too.
func (s *spool) end(leaf int64, at, from time.Time, record []byte) {
	id := idOf(record)
	if id == "" {
		return
	}
	i, ok := s.open[id]
	if !ok {
		if _, ok := s.early[id]; !ok && at.After(from.Add(-24*time.Hour)) {
			s.early[id] = s.append(leaf, record)
		}
		return
	}
	end := s.append(leaf, record)
	for ; i >= 0; i = s.list[i].same {
		s.list[i].end = end
	}
	delete(s.open, id)
}

// idOf is the decision's id in a record; empty where there is none in its place.
func idOf(record []byte) string {
	const field = `","decision_id":"`
	head := record[:min(len(record), 256)]
	at := bytes.Index(head, []byte(field))
	if at < 0 || len(record) < at+len(field)+37 || record[at+len(field)+36] != '"' {
		return ""
	}
	return string(record[at+len(field) : at+len(field)+36])
}

// finish ends the decisions, and puts them in the order of the population.
func (s *spool) finish() error {
	if err := s.out.Flush(); err != nil && s.err == nil {
		s.err = fmt.Errorf("keep the population: %w", err)
	}
	s.open, s.early = nil, nil
	slices.SortFunc(s.list, func(a, b spooled) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(s.names[a.writer], s.names[b.writer]), cmp.Compare(a.sequence, b.sequence), cmp.Compare(a.record.leaf, b.record.leaf))
	})
	return s.err
}

// batchEnd is where the batch ends that begins at a place in the order.
func (s *spool) batchEnd(from int) int {
	size, to := 0, from
	for ; to < len(s.list) && to-from < report.BatchSize && size < report.BatchBytes; to++ {
		size += int(s.list[to].record.length) + int(s.list[to].end.length)
	}
	return to
}

// batch reads the decisions from one place in the order to before another.
func (s *spool) batch(from, to int) ([]pack.Pair, error) {
	pairs := make([]pack.Pair, 0, to-from)
	size := 0
	for _, d := range s.list[from:to] {
		size += int(d.record.length) + int(d.end.length)
	}
	memory := make([]byte, 0, size)
	read := func(p place) ([]byte, error) {
		begin := len(memory)
		memory = memory[:begin+int(p.length)]
		record := memory[begin:len(memory):len(memory)]
		if _, err := s.file.ReadAt(record, p.offset); err != nil {
			return nil, fmt.Errorf("read the population: %w", err)
		}
		return record, nil
	}
	for _, d := range s.list[from:to] {
		p := pack.Pair{Leaf: d.record.leaf, EndLeaf: d.end.leaf}
		var err error
		if p.Record, err = read(d.record); err != nil {
			return nil, err
		}
		if p.EndLeaf >= 0 {
			if p.EndRecord, err = read(d.end); err != nil {
				return nil, err
			}
		}
		pairs = append(pairs, p)
	}
	return pairs, nil
}
