package writer

import (
	"bytes"
	"encoding/binary"
	"strconv"

	auditpg "github.com/sallyport/sallyport/audit/postgres"
)

// renumber gives the events of a group new numbers, of another writer, behind
// the number last. The waiters stay with their events.
func (g *group) renumber(writer string, last int64) {
	old := g.buffer[len(auditpg.CopyHeader):]
	buffer := append(make([]byte, 0, len(g.buffer)), auditpg.CopyHeader...)
	for i := range g.rows {
		r := &g.rows[i]
		tuple := old[r.start-len(auditpg.CopyHeader) : r.end-len(auditpg.CopyHeader)]
		last++
		r.start = len(buffer)
		buffer = appendRenumbered(buffer, tuple, writer, last)
		r.end, r.sequence = len(buffer), last
	}
	g.writer, g.buffer = writer, buffer
}

// appendRenumbered appends the tuple of an event, as another writer would have
// written it under that number.
func appendRenumbered(b, tuple []byte, writer string, sequence int64) []byte {
	fields := auditpg.TupleFields(make([][]byte, 0, len(auditpg.Columns)), tuple)
	before := string(fields[writerColumn])
	if record := fields[len(auditpg.Columns)-1]; record != nil {
		fields[len(auditpg.Columns)-1] = renumberRecord(record, before, sequenceOf(tuple), writer, sequence)
	}
	fields[writerColumn] = []byte(writer)
	fields[1] = binary.BigEndian.AppendUint64(nil, uint64(sequence))
	b = binary.BigEndian.AppendUint16(b, uint16(len(fields)))
	for _, f := range fields {
		if f == nil {
			b = auditpg.AppendNull(b)
			continue
		}
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(f))), f...)
	}
	return b
}

// renumberRecord replaces writer and number in a record. Only version, time, kind
// and decision_id come before them, none of which holds free text, so that the
// first place that reads so is the one.
func renumberRecord(record []byte, before string, was int64, writer string, sequence int64) []byte {
	return bytes.Replace(record, numberField(before, was), numberField(writer, sequence), 1)
}

func numberField(writer string, sequence int64) []byte {
	return []byte(`"writer":"` + writer + `","writer_sequence":` + strconv.FormatInt(sequence, 10))
}
