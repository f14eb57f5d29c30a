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

// A Checkpoint has the size of the log's tree and its root hash.
//
// As text it is a C2SP tlog-checkpoint: the origin, the size and the root in
// base64, a line each, and one extension line with the time of signing.
type Checkpoint struct {
	Origin string
	Size   int64
	Root   Hash
	Time   time.Time // in whole seconds, by the signer's clock; zero: not stated
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

// ReadCheckpoint reads a signed note without checking its signatures: its content is
// only as trustworthy as its source.
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
	signers := SignerNames(signed)
	for _, k := range keys {
		if !slices.ContainsFunc(signers, k.isNamed) || k.Origin() != c.Origin {
			continue
		}
		v := k.verifier()
		if v == nil {
			continue
		}
		if n, err := note.Open(signed, note.VerifierList(v)); err == nil && len(n.Sigs) > 0 {
			return c, k, nil
		}
	}
	more := ""
	if n := len(keys) - maxListedKeys; n > 0 {
		keys, more = keys[:maxListedKeys], fmt.Sprintf(" and %d more", n)
	}
	return Checkpoint{}, "", fmt.Errorf("the checkpoint of size %d of %s is signed by none of the keys %q%s", c.Size, c.Origin, keys, more)
}

// maxListedKeys bounds the keys in an error: a login that may record names any number.
const maxListedKeys = 10

// SignerNames returns the prefixes of the keys that a signed note names in its
// signature lines: ORIGIN+HASH+. It verifies nothing. Of many keys, only those with
// such a prefix are worth trying: a login that may record can add any number of keys to a log.
func SignerNames(signed []byte) (names []string) {
	_, lines, _ := bytes.Cut(signed, []byte("\n\n"))
	for line := range bytes.Lines(lines) {
		name, signature, ok := bytes.Cut(bytes.TrimPrefix(line, []byte(signatureMark)), []byte(" "))
		if !ok || len(signature) < 8 {
			continue
		}
		var hash [6]byte // of eight characters in base64
		if _, err := base64.StdEncoding.Decode(hash[:], signature[:8]); err == nil {
			names = append(names, fmt.Sprintf("%s+%x+", name, hash[:4]))
		}
	}
	return names
}

// isNamed takes a hash in capitals too, as golang.org/x/mod/sumdb/note does.
func (k Key) isNamed(signer string) bool {
	return len(k) > len(signer) && strings.EqualFold(string(k[:len(signer)]), signer)
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
