package pack

import (
	"bytes"
	"encoding/json"
	"strconv"
)

// foundLine is a line of reconciliations.jsonl.
type foundLine struct {
	Leaf int64           `json:"leaf"` // of the event that has the digest
	Row  json.RawMessage `json:"row"`
}

func AppendFinding(b []byte, leaf int64, row string) []byte {
	b = append(b, `{"leaf":`...)
	b = strconv.AppendInt(b, leaf, 10)
	b = append(b, `,"row":`...)
	b = append(b, row...)
	return append(b, '}', '\n')
}

// ReadFinding reads a line that AppendFinding wrote, and no other spelling of it.
func ReadFinding(line []byte) (leaf int64, row string, err error) {
	var l foundLine
	if json.Unmarshal(line, &l) != nil || l.Leaf < 0 || len(l.Row) == 0 ||
		!bytes.Equal(AppendFinding(nil, l.Leaf, string(l.Row)), append(bytes.Clone(line), '\n')) {
		return 0, "", ErrLine
	}
	return l.Leaf, string(l.Row), nil
}
