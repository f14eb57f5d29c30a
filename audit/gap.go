package audit

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A GapDeclaration states that numbers of a writer are permanently missing: a failover
// or a lost disk lost the events, or a process died before it wrote them. It is an
// event of the kind gap_declared, of the writer [DatabaseWriter], which only the
// owner's login can add, and it has a signature of the log's key. Events after the
// gap are sealed only with both.
type GapDeclaration struct {
	Writer      string
	First, Last int64 // the missing numbers, both included
	Reason      string
	DeclaredAt  time.Time // as signed, in whole seconds of UTC
	Key         Key       // that signed
	Signature   string    // base64, as in a signature line of a C2SP signed note
	Login       string    // of the database; not signed
	Index       int64     // the leaf of the event; set by who reads the log
	invalid     string    // why it accounts for nothing; empty: it does
}

// gapTitle is the title of the signed statement (see [Signer.SignStatement]).
const gapTitle = "sallyport gap declaration"

// maxReason bounds the reason, in bytes.
const maxReason = 1000

// DeclareGap signs that the numbers first to last of a writer are permanently missing.
// It returns an error if the range is not valid, or the reason is empty, over 1000
// bytes or not plain text.
func (s *Signer) DeclareGap(writer string, first, last int64, reason string, now time.Time) (GapDeclaration, error) {
	d := GapDeclaration{Writer: writer, First: first, Last: last, Reason: reason, DeclaredAt: now.UTC().Truncate(time.Second), Key: s.Key()}
	switch {
	case writer == "" || writer != Text(writer, capName):
		return d, fmt.Errorf("declare gap: %q is not the name of a writer", writer)
	case first < 1 || last < first:
		return d, fmt.Errorf("declare gap: %d to %d is not a range of numbers: they begin with 1", first, last)
	case reason == "" || reason != Text(reason, maxReason):
		return d, fmt.Errorf("declare gap: the reason is 1 to %d bytes of text without control characters", maxReason)
	}
	signed, err := s.SignStatement(gapTitle, d.text())
	if err != nil {
		return d, err
	}
	_, line, ok := strings.Cut(string(signed), "\n\n"+signatureMark)
	if !ok {
		return d, errors.New("declare gap: the statement has no signature")
	}
	_, d.Signature, _ = strings.Cut(strings.TrimSuffix(line, "\n"), " ")
	return d, nil
}

// text is what is signed, behind the origin and the title.
func (d GapDeclaration) text() string {
	return "writer " + d.Writer + "\nfirst " + strconv.FormatInt(d.First, 10) + "\nlast " + strconv.FormatInt(d.Last, 10) +
		"\ndeclared_at " + d.DeclaredAt.UTC().Format(time.RFC3339) + "\nreason " + d.Reason + "\n"
}

// Signed reports whether the key that the declaration names signed it.
func (d GapDeclaration) Signed() bool {
	note := d.Key.Origin() + "\n" + gapTitle + "\n" + d.text() + "\n" + signatureMark + d.Key.Origin() + " " + d.Signature + "\n"
	text, _, err := OpenStatement([]byte(note), gapTitle, d.Key)
	return err == nil && text == d.text()
}

// Invalid is why the declaration does not count; empty if it counts.
func (d GapDeclaration) Invalid() string { return d.invalid }

// GapDeclarationOf reads the record of an event of the kind gap_declared. It returns
// false if the record does not have the database's form. It does not check the
// signature.
func GapDeclarationOf(record []byte) (GapDeclaration, bool) {
	var recordFields struct {
		Writer     string            `json:"writer"`
		Kind       Kind              `json:"kind"`
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &recordFields) != nil || recordFields.Writer != DatabaseWriter || recordFields.Kind != KindGapDeclared {
		return GapDeclaration{}, false
	}
	a := recordFields.Attributes
	d := GapDeclaration{Writer: a["writer"], Reason: a["reason"], Key: Key(a["key"]), Signature: a["signature"], Login: a["login"]}
	var ok bool
	if d.First, d.Last, ok = numbersOf(a); !ok {
		return GapDeclaration{}, false
	}
	var err error
	if d.DeclaredAt, err = time.Parse(time.RFC3339, a["declared_at"]); err != nil {
		return GapDeclaration{}, false
	}
	return d, d.Writer != "" && d.Writer != DatabaseWriter
}

// numbersOf reads the range of numbers that an event names.
func numbersOf(attributes map[string]string) (first, last int64, ok bool) {
	a, err := strconv.ParseUint(attributes["first"], 10, 53)
	b, other := strconv.ParseUint(attributes["last"], 10, 53)
	return int64(a), int64(b), err == nil && other == nil && a >= 1 && b >= a
}

// A LostRange is the content of an event of the kind events_lost: numbers of a writer
// that the database had acknowledged and no longer has. It is a report of the process
// that wrote them, which continues as another writer.
type LostRange struct {
	Writer      string
	First, Last int64
	By          string // the writer of the event
	Signed      bool   // that writer has a key of the log (see [Signer.SignWriter])
	At          time.Time
	Index       int64 // the leaf of the event; -1: it is not sealed
}

// LostRangeOf reads the record of an event of the kind events_lost.
func LostRangeOf(record []byte) (LostRange, bool) {
	var recordFields struct {
		Writer     string            `json:"writer"`
		Kind       Kind              `json:"kind"`
		Time       time.Time         `json:"time"`
		Attributes map[string]string `json:"attributes"`
	}
	if json.Unmarshal(record, &recordFields) != nil || recordFields.Kind != KindEventsLost {
		return LostRange{}, false
	}
	first, last, ok := numbersOf(recordFields.Attributes)
	return LostRange{Writer: recordFields.Attributes["writer"], First: first, Last: last, By: recordFields.Writer, At: recordFields.Time}, ok && recordFields.Attributes["writer"] != ""
}

// gaps are the declarations of a log, as far as it has been read.
type gaps struct {
	declared []GapDeclaration // in the order of their leaves
	covered  int              // of these, up to here a checkpoint is known
	skipped  int64            // numbers that were stepped over
	// lost are reports of writers that have a key of the log, and reported those of
	// others, at most maxLost each.
	lost, reported []LostRange
	moreLost       int64
	// valid are the places in declared of those that count, by the writer whose numbers
	// they name, in the order of first numbers.
	valid map[string][]int
	steps int64 // of searches, for tests
}

// maxLost bounds the reports of lost events that are kept: a login that may record adds
// any number of them.
const maxLost = 1000

// declare takes a sealed event of the kind gap_declared. sealed is the highest
// sealed number of the writer that it names.
func (g *gaps) declare(record []byte, index int64, sealed func(writer string) int64) {
	d, ok := GapDeclarationOf(record)
	d.Index = index
	switch {
	case !ok:
		d.invalid = "it is not written as the database writes it"
	case !d.Signed():
		d.invalid = "it is not signed by the key that it names"
	case d.First <= sealed(d.Writer):
		d.invalid = fmt.Sprintf("event %d of writer %s was sealed before: what was sealed cannot be declared missing", d.First, Text(d.Writer, capName))
	}
	g.declared = append(g.declared, d)
	if d.invalid == "" {
		if g.valid == nil {
			g.valid = make(map[string][]int)
		}
		list := g.valid[d.Writer]
		g.valid[d.Writer] = slices.Insert(list, g.after(list, d.First), len(g.declared)-1)
	}
}

// after returns the place of the first declaration of a list that begins behind a
// number.
func (g *gaps) after(list []int, number int64) int {
	return sort.Search(len(list), func(i int) bool { g.steps++; return g.declared[list[i]].First > number })
}

// report takes an event of the kind events_lost. The reports of one login do not take
// the place of those of the servers.
func (g *gaps) report(l LostRange) {
	list := &g.reported
	if l.Signed {
		list = &g.lost
	}
	if len(*list) == maxLost {
		g.moreLost++
		return
	}
	*list = append(*list, l)
}

// checkpoint takes one that holds, signed by a key of the log. A declaration
// counts only with the signature of the key that sealed it.
func (g *gaps) checkpoint(signed []byte) {
	for ; g.covered < len(g.declared); g.covered++ {
		d := &g.declared[g.covered]
		if d.invalid != "" {
			continue
		}
		if _, _, err := OpenCheckpoint(signed, d.Key); err != nil {
			d.invalid = fmt.Sprintf("the key %s, which signed it, is not the one that signs the log there", d.Key)
			list := g.valid[d.Writer]
			i := g.after(list, d.First) - 1
			for list[i] != g.covered {
				i--
			}
			g.valid[d.Writer] = slices.Delete(list, i, i+1)
		}
	}
}

// find returns a declaration that counts and names a number of a writer as missing.
// covered: only one that is under a checkpoint. Two declarations of one writer name
// the same numbers or none in common (audit.declare_gap).
func (g *gaps) find(writer string, number int64, covered bool) (*GapDeclaration, bool) {
	list := g.valid[writer]
	if len(list) == 0 {
		return nil, false
	}
	for i := g.after(list, number) - 1; i >= 0; i-- {
		d := &g.declared[list[i]]
		g.steps++
		if d.Last < number {
			break
		}
		if !covered || list[i] < g.covered {
			return d, true
		}
	}
	return nil, false
}

// stepsOver reports whether all numbers from first to last of a writer were declared
// missing, by declarations that are under a checkpoint.
func (g *gaps) stepsOver(writer string, first, last int64) bool {
	for first <= last {
		d, ok := g.find(writer, first, true)
		if !ok {
			return false
		}
		first = d.Last + 1
	}
	return true
}

// names returns the declaration that lists an event as missing.
func (g *gaps) names(writer string, sequence int64) (*GapDeclaration, bool) {
	return g.find(writer, sequence, false)
}
