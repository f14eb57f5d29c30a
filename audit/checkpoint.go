package audit

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// A Checkpoint says how large the log's tree is and what its root hash is.
//
// As text it is a C2SP tlog-checkpoint: the origin, the size and the root in
// base64, a line each, and one extension line with the time of signing.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	Time   time.Time // in whole seconds, by the signer's clock; zero: not said
}

const timeLine = "time "

func (c Checkpoint) text() string {
	text := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
	if !c.Time.IsZero() {
		text += timeLine + c.Time.UTC().Format(time.RFC3339) + "\n"
	}
	return text
}

// Sign returns the checkpoint as a signed note. The origin is the signer's.
func (s *Signer) Sign(c Checkpoint) ([]byte, error) {
	c.Origin = s.key.Origin()
	signed, err := note.Sign(&note.Note{Text: c.text()}, s.signer)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return signed, nil
}

// maxNote bounds a signed checkpoint: ours has some 300 bytes, and cosignatures
// of witnesses may be added.
const maxNote = 16 << 10

var errCheckpoint = errors.New("this is not a checkpoint (C2SP tlog-checkpoint)")

// ReadCheckpoint reads a signed note without looking at its signatures: what it
// says is worth what the place is worth that it came from.
func ReadCheckpoint(signed []byte) (Checkpoint, error) {
	text, _, found := bytes.Cut(signed, []byte("\n\n"))
	if !found || len(signed) > maxNote {
		return Checkpoint{}, errCheckpoint
	}
	lines := strings.Split(string(text), "\n")
	if len(lines) < 3 || lines[0] == "" {
		return Checkpoint{}, errCheckpoint
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 || strconv.FormatInt(c.Size, 10) != lines[1] {
		return Checkpoint{}, errCheckpoint
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil || base64.StdEncoding.EncodeToString(c.Root[:]) != lines[2] {
		return Checkpoint{}, errCheckpoint
	}
	for _, line := range lines[3:] {
		if text, is := strings.CutPrefix(line, timeLine); is {
			if c.Time, err = time.Parse(time.RFC3339, text); err != nil {
				return Checkpoint{}, errCheckpoint
			}
		}
	}
	return c, nil
}

// OpenCheckpoint reads a signed note and returns the key, of those given, that
// signed it. The origin must be that key's.
func OpenCheckpoint(signed []byte, keys ...Key) (Checkpoint, Key, error) {
	c, err := ReadCheckpoint(signed)
	if err != nil {
		return Checkpoint{}, "", err
	}
	for _, k := range keys {
		v := k.verifier()
		if v == nil || k.Origin() != c.Origin {
			continue
		}
		if n, err := note.Open(signed, note.VerifierList(v)); err == nil && len(n.Sigs) > 0 {
			return c, k, nil
		}
	}
	return Checkpoint{}, "", fmt.Errorf("the checkpoint of size %d of %s is signed by none of the keys %q", c.Size, c.Origin, keys)
}

// Compare orders checkpoints of one log: by size, and those of one size by the time
// of their signing.
func (c Checkpoint) Compare(other Checkpoint) int {
	return cmp.Or(cmp.Compare(c.Size, other.Size), c.Time.Compare(other.Time))
}

// LatestCheckpoint returns that of the largest size, and of several with that size
// the one that was signed last, or nil.
func LatestCheckpoint(notes [][]byte) []byte {
	if len(notes) == 0 {
		return nil
	}
	return slices.MaxFunc(notes, func(a, b []byte) int {
		read := func(signed []byte) Checkpoint {
			c, err := ReadCheckpoint(signed)
			if err != nil {
				return Checkpoint{Size: -1}
			}
			return c
		}
		return read(a).Compare(read(b))
	})
}
