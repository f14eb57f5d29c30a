package audit

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A TreeHead is the size of a tree and its root hash.
type TreeHead struct {
	Size int64 `json:"size"`
	Root Hash  `json:"root"`
}

// A Consistency is a proof that the tree To extends the tree From (RFC 6962 section
// 2.1.2). It extends trust in one of the two heads to the other. As JSON it is one line.
type Consistency struct {
	From   TreeHead `json:"from"`
	To     TreeHead `json:"to"`
	Hashes []Hash   `json:"hashes"`
}

// Check returns nil if and only if the proof holds between its own two heads.
// Whether these are those of a certain log is for the caller to compare.
func (c *Consistency) Check() error {
	if c.From.Size < 1 || c.From.Size >= c.To.Size {
		return fmt.Errorf("the tree of %d as the beginning of that of %d: a proof is from a smaller size above 0 to a larger one", c.From.Size, c.To.Size)
	}
	return CheckConsistency(c.Hashes, c.To.Size, c.To.Root, c.From.Size, c.From.Root)
}

// AppendLine appends the proof as a line of JSON. The same proof gives the same
// bytes.
func (c *Consistency) AppendLine(b []byte) []byte {
	if c.Hashes == nil {
		c.Hashes = []Hash{}
	}
	return append(appendJSON(b, c), '\n')
}

// maxConsistencyLine bounds a line: a tree of 2^63 leaves has proofs of at most 126
// hashes (RFC 6962 section 2.1.2), 47 bytes each as text.
const maxConsistencyLine = 16 << 10

var errConsistency = errors.New("this is not a consistency proof: want a line of JSON with from, to and hashes, as `sallyport audit proof --from-size --to-size` prints it")

// ParseConsistency reads one line. It does not check the proof.
func ParseConsistency(line []byte) (*Consistency, error) {
	c := new(Consistency)
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	if len(line) > maxConsistencyLine || decoder.Decode(c) != nil || decoder.More() {
		return nil, errConsistency
	}
	return c, nil
}

// ReadConsistencies reads lines of proofs. Empty lines do not matter.
func ReadConsistencies(text []byte) ([]*Consistency, error) {
	var list []*Consistency
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		c, err := ParseConsistency(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		list = append(list, c)
	}
	if lines.Err() != nil || len(list) == 0 {
		return nil, errConsistency
	}
	return list, nil
}
