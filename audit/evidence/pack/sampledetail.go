package pack

import (
	"errors"
	"fmt"

	"github.com/sallyport/sallyport/audit"
)

// A SampleDetail describes one decision of the sample. With the log's public key it is
// enough to check that the records are in the log.
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
// survive reading and writing the file again.
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
	Author string `json:"self_declared_author,omitempty"`
	// Subject is the first line of the commit's message.
	Subject string `json:"commit_subject,omitempty"`
	Signer  string `json:"signer,omitempty"`
	// Signature is verified, invalid or not_required.
	Signature string `json:"signature,omitempty"`
	Source    string `json:"source,omitempty"`
	Leaf      int64  `json:"leaf"`
}

// ReadSampleDetail reads what WriteJSON wrote.
func ReadSampleDetail(text []byte) (*SampleDetail, error) {
	d := new(SampleDetail)
	if err := ReadJSON(text, d); err != nil {
		return nil, fmt.Errorf("it is not a sample detail: %w", err)
	}
	if !IsID(d.ID) || len(d.Records) < 1 || len(d.Records) > 2 {
		return nil, errors.New("it is not a sample detail: it has an id, and one or two records")
	}
	return d, nil
}

// A RuleText is the literal text of a statement of a policy that names a rule.
type RuleText struct {
	File  string `json:"file"`
	First int    `json:"first_line"`
	Last  int    `json:"last_line"`
	Text  string `json:"text"`
}
