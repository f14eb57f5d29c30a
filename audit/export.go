package audit

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// An export is the whole log as lines of JSON, in its order, so that it can be
// verified without a database:
//
//	{"export":1}
//	{"leaf":0,"record":{…}}                                    a sealed event: its bytes, as they were sealed
//	{"leaf":1,"writer":"…","writer_sequence":1,"hash":"…"}     one that is missing, with its leaf
//	{"checkpoint":"…"}                                         after the last leaf that it covers
//	{"record":{…}}                                             an event that is not sealed
//	{"end":{"leaves":2,"checkpoints":1,"unsealed":1}}
//
// A record that is not one line of JSON, or does not have the hash of its leaf, has
// "record_base64" in its place, and the hash beside it.
const (
	exportHead = `{"export":1}`
	leafField  = `{"leaf":`
	recordPart = `"record":`
)

// Exporter writes an export. It takes a log in the order that a [Verification]
// does. It is not safe for concurrent use.
type Exporter struct {
	w    *bufio.Writer
	line []byte
	end  exportEnd
	err  error
}

type exportEnd struct {
	Leaves      int64 `json:"leaves"`
	Checkpoints int64 `json:"checkpoints"`
	Unsealed    int64 `json:"unsealed"`
}

// NewExporter begins an export.
func NewExporter(w io.Writer) *Exporter {
	e := &Exporter{w: bufio.NewWriterSize(w, 1<<18)}
	e.write([]byte(exportHead + "\n"))
	return e
}

func (x *Exporter) write(b []byte) {
	if x.err == nil {
		_, x.err = x.w.Write(b)
	}
}

// Err is the first error of the writer. What follows it is not written.
func (x *Exporter) Err() error { return x.err }

// Sealed writes a leaf with its event.
func (x *Exporter) Sealed(e *Entry) {
	x.end.Leaves++
	b := append(x.line[:0], leafField...)
	b = strconv.AppendInt(b, e.Index, 10)
	switch {
	case e.Record != nil && plainRecord(e.Record) && (e.Hash == Hash{} || e.Hash == e.leaf()):
		b = append(b, ',')
		b = append(b, recordPart...)
		b = append(b, e.Record...)
	default:
		b = append(b, `,"writer":`...)
		b = appendJSON(b, e.Writer)
		b = append(b, `,"writer_sequence":`...)
		b = strconv.AppendInt(b, e.Sequence, 10)
		b = append(b, `,"hash":`...)
		b = appendJSON(b, e.Hash)
		if e.Record != nil {
			b = append(b, `,"record_base64":`...)
			b = appendJSON(b, e.Record)
		}
	}
	if e.Copies > 0 {
		// Which of the rows is the right one does not matter: none may be there.
		b = append(b, "}\n"+`{"copies":`...)
		b = strconv.AppendInt(b, int64(e.Copies), 10)
	}
	x.line = append(b, '}', '\n')
	x.write(x.line)
}

// Checkpoint writes a checkpoint of the log.
func (x *Exporter) Checkpoint(s Statement) {
	x.end.Checkpoints++
	b := append(x.line[:0], `{"checkpoint":`...)
	b = appendJSON(b, string(s.Note))
	x.line = append(b, '}', '\n')
	x.write(x.line)
}

// Unsealed writes an event that no leaf covers.
func (x *Exporter) Unsealed(e *Entry) {
	x.end.Unsealed++
	b := append(x.line[:0], '{')
	if plainRecord(e.Record) {
		b = append(b, recordPart...)
		b = append(b, e.Record...)
	} else {
		b = append(b, `"record_base64":`...)
		b = appendJSON(b, e.Record)
	}
	x.line = append(b, '}', '\n')
	x.write(x.line)
}

// Close writes the end, without which an export counts as cut off.
func (x *Exporter) Close() error {
	x.write(append(appendJSON([]byte(`{"end":`), x.end), '}', '\n'))
	if x.err == nil {
		x.err = x.w.Flush()
	}
	return x.err
}

// plainRecord reports whether a record can stand in a line as it is.
func plainRecord(record []byte) bool {
	return len(record) > 1 && record[0] == '{' && record[len(record)-1] == '}' && bytes.IndexByte(record, '\n') < 0 && bytes.IndexByte(record, '\r') < 0
}

func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, text...)
}

// exportLine is a line of any kind.
type exportLine struct {
	Export     int        `json:"export"`
	Leaf       *int64     `json:"leaf"`
	Writer     string     `json:"writer"`
	Sequence   int64      `json:"writer_sequence"`
	Hash       *Hash      `json:"hash"`
	Base64     *string    `json:"record_base64"`
	Checkpoint *string    `json:"checkpoint"`
	Copies     int        `json:"copies"`
	End        *exportEnd `json:"end"`
}

// maxLine bounds a line of an export: an input has at most a megabyte, and
// everything else is capped.
const maxLine = 8 << 20

// ErrExport is returned, wrapped, for what is not an export at all.
var ErrExport = errors.New("this is not an export of the audit log")

// ReadExport gives an export to a verification. A line that cannot be read, or
// an end that is not there, is damage and no error: an error means that the
// file could not be read, or is not an export.
func (v *Verification) ReadExport(r io.Reader, progress func(leaves int64)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 1<<18), maxLine)
	var seen exportEnd
	var ended, more bool
	for n := 1; lines.Scan(); n++ {
		line := lines.Bytes()
		if n == 1 {
			if string(line) != exportHead {
				return ErrExport
			}
			continue
		}
		if ended {
			more = true
			break
		}
		if progress != nil && n%4096 == 0 {
			progress(seen.Leaves)
		}
		if v.fastLine(line, &seen) {
			continue
		}
		var l exportLine
		if err := json.Unmarshal(line, &l); err != nil {
			v.Incomplete(fmt.Sprintf("line %d is not a line of an export", n))
			continue
		}
		ended = v.slowLine(&l, line, n, &seen)
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("read the export: %w", err)
	}
	switch {
	case !ended:
		v.Incomplete("it has no end: it was cut off")
	case more:
		v.Incomplete("something follows its end")
	}
	return nil
}

// fastLine takes the lines that nearly all are: an event as it was sealed.
func (v *Verification) fastLine(line []byte, seen *exportEnd) bool {
	rest, ok := bytes.CutPrefix(line, []byte(leafField))
	if !ok {
		return false
	}
	comma := bytes.IndexByte(rest, ',')
	if comma < 1 || !bytes.HasPrefix(rest[comma+1:], []byte(recordPart)) || rest[len(rest)-1] != '}' {
		return false
	}
	index, err := strconv.ParseInt(string(rest[:comma]), 10, 64)
	if err != nil {
		return false
	}
	seen.Leaves++
	v.Sealed(&Entry{Index: index, Record: rest[comma+1+len(recordPart) : len(rest)-1]})
	return true
}

// slowLine takes any line. It is true for the end.
func (v *Verification) slowLine(l *exportLine, line []byte, n int, seen *exportEnd) bool {
	record, isRecord := []byte(nil), false
	if l.Base64 != nil {
		var err error
		if record, err = base64.StdEncoding.DecodeString(*l.Base64); err != nil {
			v.Incomplete(fmt.Sprintf("line %d has a record that is no base64", n))
			return false
		}
		isRecord = true
	} else if rest, ok := bytes.CutPrefix(line, []byte(`{`+recordPart)); ok {
		record, isRecord = rest[:len(rest)-1], true
	}
	switch {
	case l.Leaf != nil:
		seen.Leaves++
		e := &Entry{Index: *l.Leaf, Writer: l.Writer, Sequence: l.Sequence, Record: record}
		if l.Hash == nil {
			v.Incomplete(fmt.Sprintf("line %d has neither a record nor a hash", n))
			l.Hash = &Hash{1}
		}
		e.Hash = *l.Hash
		v.Sealed(e)
	case l.Checkpoint != nil:
		seen.Checkpoints++
		v.Checkpoint(Statement{Note: []byte(*l.Checkpoint)})
	case l.Copies > 0:
		v.findings.add(Finding{Damage: DamageInserted, First: v.tree.Size() - 1, Last: v.tree.Size() - 1, Detail: fmt.Sprintf("%d more rows have this number", l.Copies)})
	case l.End != nil:
		if *l.End != *seen {
			v.Incomplete(fmt.Sprintf("its end states %d leaves, %d checkpoints and %d events that are not sealed, but it has %d, %d and %d",
				l.End.Leaves, l.End.Checkpoints, l.End.Unsealed, seen.Leaves, seen.Checkpoints, seen.Unsealed))
		}
		return true
	case isRecord:
		seen.Unsealed++
		v.Unsealed(&Entry{Record: record})
	default:
		v.Incomplete(fmt.Sprintf("line %d is not a line of an export", n))
	}
	return false
}
