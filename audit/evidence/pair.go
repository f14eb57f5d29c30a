package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"
)

// Pair is a decision and its end, as they were sealed.
type Pair struct {
	Leaf, EndLeaf     int64 // EndLeaf is -1 where no end is sealed
	Record, EndRecord []byte
}

// pairLine is a line of population.jsonl, eventLine one of events.jsonl. A record
// that is not JSON is in base64.
type pairLine struct {
	Leaf      int64           `json:"leaf"`
	Record    json.RawMessage `json:"record,omitempty"`
	Base64    *string         `json:"record_base64,omitempty"`
	EndLeaf   *int64          `json:"end_leaf,omitempty"`
	End       json.RawMessage `json:"end,omitempty"`
	EndBase64 *string         `json:"end_base64,omitempty"`
}

var errLine = errors.New("it is not a line of a pack")

func appendRecord(b []byte, name string, record []byte) []byte {
	if len(record) > 0 && record[0] == '{' && record[len(record)-1] == '}' && bytes.IndexByte(record, '\n') < 0 && isRecordJSON(record) {
		b = append(b, `,"`+name+`":`...)
		return append(b, record...)
	}
	if name == "record" {
		name = "record_base64"
	} else {
		name = "end_base64"
	}
	b = append(b, `,"`+name+`":"`...)
	b = base64.StdEncoding.AppendEncode(b, record)
	return append(b, '"')
}

// appendPair appends the line of a pair.
func appendPair(b []byte, p *Pair) []byte {
	b = append(b, `{"leaf":`...)
	b = strconv.AppendInt(b, p.Leaf, 10)
	b = appendRecord(b, "record", p.Record)
	if p.EndLeaf >= 0 {
		b = append(b, `,"end_leaf":`...)
		b = strconv.AppendInt(b, p.EndLeaf, 10)
		b = appendRecord(b, "end", p.EndRecord)
	}
	return append(b, '}', '\n')
}

// readPair reads a line that appendPair wrote; a line in another spelling is
// refused, so that a line has one meaning. The records may be parts of the line.
func readPair(line []byte) (*Pair, error) {
	if p := scanPair(line); p != nil {
		return p, nil
	}
	var l pairLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, errLine
	}
	p := &Pair{Leaf: l.Leaf, EndLeaf: -1}
	var err error
	if p.Record, err = recordOf(l.Record, l.Base64); err != nil {
		return nil, err
	}
	if l.EndLeaf != nil {
		p.EndLeaf = *l.EndLeaf
		if p.EndRecord, err = recordOf(l.End, l.EndBase64); err != nil {
			return nil, err
		}
	}
	if p.Leaf < 0 || !bytes.Equal(appendPair(nil, p), append(bytes.Clone(line), '\n')) {
		return nil, errLine
	}
	return p, nil
}

func recordOf(raw json.RawMessage, encoded *string) ([]byte, error) {
	switch {
	case raw != nil && encoded == nil:
		return raw, nil
	case encoded != nil && raw == nil:
		b, err := base64.StdEncoding.DecodeString(*encoded)
		if err != nil {
			return nil, errLine
		}
		return b, nil
	}
	return nil, errLine
}

// scanPair reads a line that appendPair wrote of two records that are JSON; nil where
// it has another form. The slices are parts of the line.
func scanPair(line []byte) *Pair {
	s := scanner{rest: line}
	p := &Pair{EndLeaf: -1}
	p.Leaf, p.Record = s.part(`{"leaf":`, `,"record":`)
	if !s.failed && len(s.rest) > 1 {
		p.EndLeaf, p.EndRecord = s.part(`,"end_leaf":`, `,"end":`)
	}
	if s.want('}'); s.failed || len(s.rest) > 0 {
		return nil
	}
	return p
}

// part reads a leaf and its record.
func (s *scanner) part(leaf, record string) (n int64, object []byte) {
	s.literal(leaf)
	n = s.number()
	s.literal(record)
	end := objectEnd(s.rest)
	if s.failed || end < 0 || s.rest[0] != '{' {
		s.failed = true
		return 0, nil
	}
	object, s.rest = s.rest[:end:end], s.rest[end:]
	if bytes.IndexByte(object, '\n') >= 0 || !isRecordJSON(object) {
		s.failed = true
	}
	return n, object
}

func (s *scanner) literal(text string) {
	rest, ok := bytes.CutPrefix(s.rest, []byte(text))
	if s.rest = rest; !ok {
		s.failed = true
	}
}
