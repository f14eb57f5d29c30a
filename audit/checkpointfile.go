package audit

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"
)

// A LocatedNote is a signed note and where it was found in a text.
type LocatedNote struct {
	Signed []byte
	Line   int // of its first line, from 1
}

// maxExtensionLines bounds the lines of one checkpoint before its signatures.
const maxExtensionLines = 64

// ReadCheckpoints reads a sequence of checkpoints, as in a file that they are published
// to. It skips lines that are not part of a signed checkpoint, which a crash or another
// program left; strays has the number of the first line of each such run, from 1. Empty
// lines do not matter. It does not check signatures.
func ReadCheckpoints(text []byte) (notes []LocatedNote, strays []int) {
	lines := bytes.SplitAfter(text, []byte("\n"))
	if last := len(lines) - 1; len(lines[last]) == 0 {
		lines = lines[:last]
	}
	stray := false
	for i := 0; i < len(lines); {
		end := endOfCheckpoint(lines, i)
		switch {
		case end > i:
			notes = append(notes, LocatedNote{bytes.Join(lines[i:end], nil), i + 1})
			i, stray = end, false
			continue
		case len(lines[i]) == 1: // an empty line
			stray = false
		case !stray:
			strays = append(strays, i+1)
			stray = true
		}
		i++
	}
	return notes, strays
}

// SplitCheckpoints returns the signed notes that [ReadCheckpoints] finds.
func SplitCheckpoints(text []byte) [][]byte {
	var notes [][]byte
	located, _ := ReadCheckpoints(text)
	for _, n := range located {
		notes = append(notes, n.Signed)
	}
	return notes
}

// endOfCheckpoint is the line behind the signed checkpoint that begins at a line;
// 0: none begins there.
func endOfCheckpoint(lines [][]byte, begin int) int {
	if begin+3 >= len(lines) {
		return 0
	}
	if _, err := strconv.ParseUint(string(bytes.TrimSuffix(lines[begin+1], []byte("\n"))), 10, 63); err != nil {
		return 0 // the second line of a checkpoint is its size
	}
	i := begin
	for ; i < len(lines) && len(lines[i]) > 1; i++ {
		if i-begin == maxExtensionLines || isSignatureLine(lines[i]) {
			return 0
		}
	}
	first := i + 1
	for i = first; i < len(lines) && isSignatureLine(lines[i]); i++ {
		if !isSignature(lines[i]) {
			return 0
		}
	}
	if i <= first {
		return 0
	}
	if _, err := ReadCheckpoint(bytes.Join(lines[begin:i], nil)); err != nil {
		return 0
	}
	return i
}

func isSignatureLine(line []byte) bool { return bytes.HasPrefix(line, []byte(signatureMark)) }

// isSignature reports whether a line is a whole Ed25519 signature (C2SP
// signed-note: four bytes of the key's hash, and 64).
func isSignature(line []byte) bool {
	fields := bytes.Fields(line)
	if len(fields) != 3 || !bytes.HasSuffix(line, []byte("\n")) {
		return false
	}
	raw, err := base64.StdEncoding.DecodeString(string(fields[2]))
	return err == nil && len(raw) >= 4+64
}

// AddCheckpoints adds the checkpoints of a text to t, and returns warnings for its other
// text. name is the file's, for messages.
func (t *Trust) AddCheckpoints(name string, text []byte) (warnings []string, err error) {
	notes, strays := ReadCheckpoints(text)
	if len(notes) == 0 {
		return nil, fmt.Errorf("%s: no signed checkpoint in the file: name the file that the server publishes checkpoints to", name)
	}
	for len(t.Sources) < len(t.Notes) {
		t.Sources = append(t.Sources, t.Source(len(t.Sources)))
	}
	for _, n := range notes {
		t.Notes = append(t.Notes, n.Signed)
		t.Sources = append(t.Sources, fmt.Sprintf("%s:%d", name, n.Line))
	}
	for i, line := range strays {
		if i == maxWarnings {
			warnings = append(warnings, fmt.Sprintf("%s: %d more places are not part of a signed checkpoint", name, len(strays)-i))
			break
		}
		warnings = append(warnings, fmt.Sprintf("%s:%d: the text here is not part of a signed checkpoint: it is not used", name, line))
	}
	return warnings, nil
}
