package audit

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// What a record of version 1 begins with, and where its parts are.
const (
	recordHead = `{"version":1,`
	timeField  = `"time":"`
	kindField  = `","kind":"`
	timeAt     = len(recordHead) + len(timeField)
	kindAt     = timeAt + len(timeLayout) + len(kindField)
)

// KindOf is the kind in a record; empty where the record has none.
func KindOf(record []byte) Kind { return kindOf(record) }

// kindOf is the kind in a record of ours; empty where it is in no form
// that we write.
func kindOf(record []byte) Kind {
	if len(record) < kindAt || !bytes.HasPrefix(record, []byte(recordHead+timeField)) {
		var recordFields struct{ Kind Kind }
		_ = json.Unmarshal(record, &recordFields) // no kind then
		return recordFields.Kind
	}
	if string(record[kindAt-len(kindField):kindAt]) != kindField {
		return ""
	}
	end := bytes.IndexByte(record[kindAt:min(len(record), kindAt+64)], '"')
	if end < 0 {
		return ""
	}
	switch kind := record[kindAt : kindAt+end]; string(kind) { // nothing is allocated for the usual ones
	case string(KindDecision):
		return KindDecision
	case string(KindTunnelClosed):
		return KindTunnelClosed
	default:
		return Kind(kind)
	}
}

// timeOf is the time in a record, or zero. It is for orientation: only
// the date and the time of day as far as seconds are read.
func timeOf(record []byte) time.Time {
	if len(record) < kindAt || !bytes.HasPrefix(record, []byte(recordHead+timeField)) {
		return time.Time{}
	}
	b := record[timeAt:]
	n := func(from, to int) int {
		v := 0
		for _, c := range b[from:to] {
			v = v*10 + int(c-'0')
		}
		return v
	}
	return time.Date(n(0, 4), time.Month(n(5, 7)), n(8, 10), n(11, 13), n(14, 16), n(17, 19), 0, time.UTC)
}

// numberOf is the writer and the number in a record.
func numberOf(record []byte) (writer string, sequence int64, ok bool) {
	// Neither the kind nor the decision's id can hold what is looked for here.
	const writerField, sequenceField = `,"writer":"`, `","writer_sequence":`
	head := record[:min(len(record), 1024)]
	if at := bytes.Index(head, []byte(writerField)); at >= 0 && bytes.HasPrefix(record, []byte(recordHead)) {
		rest := head[at+len(writerField):]
		if end := bytes.IndexByte(rest, '"'); end > 0 && bytes.HasPrefix(rest[end:], []byte(sequenceField)) && rest[end-1] != '\\' {
			number := rest[end+len(sequenceField):]
			if stop := bytes.IndexAny(number, ",}"); stop > 0 {
				if sequence, err := strconv.ParseInt(string(number[:stop]), 10, 64); err == nil {
					return string(rest[:end]), sequence, true
				}
			}
		}
	}
	var recordFields struct {
		Writer   string `json:"writer"`
		Sequence int64  `json:"writer_sequence"`
	}
	err := json.Unmarshal(record, &recordFields)
	return recordFields.Writer, recordFields.Sequence, err == nil && recordFields.Writer != ""
}

// compareColumns returns where the columns and the record differ; empty: they
// agree. Columns are in the record's own form, so that for a record of ours it
// is a comparison of bytes.
func compareColumns(record, columns []byte) string {
	if rest, ok := bytes.CutPrefix(record, []byte(recordHead)); ok && len(columns) > 2 {
		recordFields := columns[1 : len(columns)-1]
		if rest, ok := bytes.CutPrefix(rest, recordFields); ok &&
			(len(rest) == 1 && rest[0] == '}' || bytes.HasPrefix(rest, []byte(`,"attributes":{`)) || bytes.HasPrefix(rest, []byte(`,"input":`)) || bytes.HasPrefix(rest, []byte(inputPartsField))) {
			return ""
		}
	}
	return decodeAndCompare(record, columns)
}

// notColumns are the fields of a record that no column holds.
var notColumns = []string{"version", "attributes", "input", "input_parts"}

func decodeAndCompare(record, columns []byte) string {
	var recordFields, held map[string]json.RawMessage
	if err := json.Unmarshal(record, &recordFields); err != nil {
		return "the record is not JSON object"
	}
	if err := json.Unmarshal(columns, &held); err != nil {
		return "the columns hold what no record can"
	}
	var names []string
	for name := range recordFields {
		if !slices.Contains(notColumns, name) {
			names = append(names, name)
		}
	}
	for name := range held {
		if _, both := recordFields[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		if a, b := compact(recordFields[name]), compact(held[name]); a != b {
			return fmt.Sprintf("column %s is %s, and the record has %s", name, orNothing(b), orNothing(a))
		}
	}
	return ""
}

// compact is a value in one spelling.
func compact(raw json.RawMessage) string {
	if raw == nil {
		return ""
	}
	var v any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	if decoder.Decode(&v) != nil {
		return string(raw)
	}
	again, err := json.Marshal(v)
	if err != nil {
		return string(raw)
	}
	return string(again)
}

func orNothing(value string) string {
	if value == "" {
		return "null"
	}
	return Text(value, 200)
}
