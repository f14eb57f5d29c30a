package evidence

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sallyport/sallyport/audit"
)

// A Dossier is what a pack says of one decision of the sample. Who has the log's
// public key needs nothing else to check that its records are in the log.
type SampleDetail struct {
	ID         string   `json:"decision_id"`
	Place      int      `json:"place"` // in the sample, from 0
	Rank       string   `json:"rank"`  // SHA-256(seed || decision_id)
	Records    []Proven `json:"records"`
	Checkpoint string   `json:"checkpoint"`

	Revision    string       `json:"revision,omitempty"`
	Commit      string       `json:"commit,omitempty"`
	OwnRevision string       `json:"repository_revision,omitempty"`
	Rule        string       `json:"rule,omitempty"`
	Rules       []RuleText   `json:"rule_text,omitempty"`
	NoRule      string       `json:"no_rule_text,omitempty"` // why there is none
	Activations []Activation `json:"activations,omitempty"`
}

// Proven is a record with its proof. The record is text, so that its bytes
// survive whoever reads and writes the file again.
type Proven struct {
	Leaf   int64        `json:"leaf"`
	Record string       `json:"record"`
	Hashes []audit.Hash `json:"hashes"` // from the leaf to the root (RFC 6962 section 2.1.1)
	Proven bool         `json:"proven"` // they lead to the root of the checkpoint
}

// Activation is an event by which an instance began to decide by the revision.
type Activation struct {
	Time   string `json:"time"`
	Writer string `json:"writer"`
	Commit string `json:"commit,omitempty"`
	Author string `json:"author_as_the_commit_says,omitempty"`
	// Subject is the first line of the commit's message.
	Subject string `json:"subject_as_the_commit_says,omitempty"`
	Signer  string `json:"signer,omitempty"`
	// Signature is verified, invalid or not_required.
	Signature string `json:"signature,omitempty"`
	Source    string `json:"source,omitempty"`
	Leaf      int64  `json:"leaf"`
}

// maxActivations bounds what a sample detail lists: the instance's own comes first.
const maxActivations = 50

// provenance gathers the events by which revisions began to decide.
type provenance struct{ by map[string][]Activation }

func (p *provenance) event(leaf int64, record []byte) {
	s, err := read(record)
	if err != nil || s.Kind != string(audit.KindPolicyLoaded) {
		return
	}
	if p.by == nil {
		p.by = map[string][]Activation{}
	}
	p.by[s.Revision] = append(p.by[s.Revision], Activation{
		Time: s.Time, Writer: s.Writer, Commit: s.Commit, Author: s.Attributes["author"], Subject: s.Attributes["subject"],
		Signer: s.Attributes["signer"], Signature: s.Attributes["signature"], Source: s.Attributes["source"], Leaf: leaf,
	})
}

// of returns the activations of the revision that decided, from the same source: not
// those of equal files from a directory or another commit. The activation that was in
// force comes first: the latest of the decision's writer that is not after it.
func (p *provenance) of(s *recordFields) []Activation {
	var own, others []Activation
	for _, a := range p.by[s.Revision] {
		switch {
		case a.Commit != s.Commit:
		case a.Writer == s.Writer && a.Time <= s.Time:
			own = append([]Activation{a}, own...)
		default:
			others = append(others, a)
		}
	}
	own = append(own, others...)
	return own[:min(len(own), maxActivations)]
}

// makeSampleDetail puts a sample detail together; content and own are as contentsOf returns them.
func makeSampleDetail(c *chosen, place int, checkpoint string, p *prover, events *provenance, content, own []byte) (*SampleDetail, error) {
	s, err := read(c.pair.Record)
	if err != nil {
		return nil, err
	}
	d := &SampleDetail{ID: c.id, Place: place, Rank: c.Rank(), Checkpoint: checkpoint, Revision: s.Revision, Commit: s.Commit, OwnRevision: s.OwnRevision, Rule: s.Rule,
		Activations: events.of(s)}
	at, err := audit.ReadCheckpoint([]byte(checkpoint))
	if err != nil {
		return nil, err
	}
	prove := func(leaf int64, record []byte) {
		one := Proven{Leaf: leaf, Record: string(record), Hashes: p.proof(leaf)}
		one.Proven = audit.CheckInclusion(one.Hashes, at.Size, at.Root, leaf, audit.Leaf(record)) == nil
		d.Records = append(d.Records, one)
	}
	prove(c.pair.Leaf, c.pair.Record)
	if c.pair.EndLeaf >= 0 {
		prove(c.pair.EndLeaf, c.pair.EndRecord)
	}
	d.Rules, d.NoRule = quote(s, content, own)
	return d, nil
}

// writeJSON writes a value for people and programs.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// readSampleDetail reads what writeJSON wrote.
func readSampleDetail(text []byte) (*SampleDetail, error) {
	d := new(SampleDetail)
	if err := readJSON(text, d); err != nil {
		return nil, fmt.Errorf("it is not a sample detail: %w", err)
	}
	if !isID(d.ID) || len(d.Records) < 1 || len(d.Records) > 2 {
		return nil, errors.New("it is not a sample detail: it has an id, and one or two records")
	}
	return d, nil
}

// shownRecord is a record as the page shows it.
type shownRecord struct {
	Proven
	Title  string
	Fields [][2]string
}

// writePage writes the sample detail for people.
func (d *SampleDetail) writePage(w io.Writer) error {
	page := struct {
		*SampleDetail
		Records []shownRecord
		NoEnd   string
	}{SampleDetail: d}
	for i, r := range d.Records {
		title := "The decision"
		if i > 0 {
			title = "Its end"
		}
		page.Records = append(page.Records, shownRecord{r, title, fieldsOf([]byte(r.Record))})
	}
	if len(d.Records) == 1 {
		page.NoEnd = "No end is sealed: it was refused, or was open, or its process was lost."
	}
	return pages.ExecuteTemplate(w, "sample", page)
}

// fieldsOf are the fields of a record in their order, each as its JSON says it.
func fieldsOf(record []byte) [][2]string {
	decoder := json.NewDecoder(bytes.NewReader(record))
	if t, err := decoder.Token(); err != nil || t != json.Delim('{') {
		return [][2]string{{"record", string(record)}}
	}
	var list [][2]string
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if decoder.Decode(&value) != nil {
			break
		}
		var text string
		if json.Unmarshal(value, &text) != nil {
			text = strings.TrimSpace(string(value))
		}
		if name == "duration" {
			text += " microseconds"
		}
		list = append(list, [2]string{fmt.Sprint(name), text})
	}
	return list
}
