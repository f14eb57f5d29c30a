package pack

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/sallyport/sallyport/audit/recorded"
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

var ErrLine = errors.New("it is not a line of a pack")

func appendRecord(b []byte, name string, record []byte) []byte {
	if len(record) > 0 && record[0] == '{' && record[len(record)-1] == '}' && bytes.IndexByte(record, '\n') < 0 && recorded.IsJSON(record) {
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

// AppendPair appends the line of a pair.
func AppendPair(b []byte, p *Pair) []byte {
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

// ReadPair reads a line that AppendPair wrote; a line in another spelling is
// refused, so that a line has one meaning. The records may be parts of the line.
func ReadPair(line []byte) (*Pair, error) {
	if p := scanPair(line); p != nil {
		return p, nil
	}
	var l pairLine
	if err := json.Unmarshal(line, &l); err != nil {
		return nil, ErrLine
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
	if p.Leaf < 0 || !bytes.Equal(AppendPair(nil, p), append(bytes.Clone(line), '\n')) {
		return nil, ErrLine
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
			return nil, ErrLine
		}
		return b, nil
	}
	return nil, ErrLine
}

// scanPair reads a line that AppendPair wrote of two records that are JSON; nil if it
// has another form. The slices are parts of the line.
func scanPair(line []byte) *Pair {
	p := &Pair{EndLeaf: -1}
	var rest []byte
	var ok bool
	p.Leaf, p.Record, rest, ok = cutLeaf(line, `{"leaf":`, `,"record":`)
	if ok && len(rest) > 1 {
		p.EndLeaf, p.EndRecord, rest, ok = cutLeaf(rest, `,"end_leaf":`, `,"end":`)
	}
	if !ok || string(rest) != "}" {
		return nil
	}
	return p
}

// cutLeaf cuts a leaf and its record off the beginning of a text, and returns the rest.
func cutLeaf(text []byte, leaf, record string) (n int64, object, rest []byte, ok bool) {
	text, ok = bytes.CutPrefix(text, []byte(leaf))
	digits := 0
	for digits < min(len(text), 18) && text[digits] >= '0' && text[digits] <= '9' {
		n = n*10 + int64(text[digits]-'0')
		digits++
	}
	if !ok || digits == 0 || digits > 1 && text[0] == '0' {
		return 0, nil, nil, false
	}
	if text, ok = bytes.CutPrefix(text[digits:], []byte(record)); !ok {
		return 0, nil, nil, false
	}
	object, rest, ok = recorded.Cut(text)
	return n, object, rest, ok && bytes.IndexByte(object, '\n') < 0
}
