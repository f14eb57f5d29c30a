package verifycmd

import (
	"encoding/hex"
	"io"
	"time"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/audit/evidence"
	"github.com/sallyport/sallyport/cmd/sallyport/internal/cli"
)

// trustResult is the result of a verification, as scripts read it. The exit status
// is 0 for resultSound and resultAccepted, and 1 for the others.
type trustResult string

const (
	resultSound       trustResult = "sound"
	resultAccepted    trustResult = "not_anchored_accepted" // --unanchored
	resultNotAnchored trustResult = "not_anchored"
	resultUnvouched   trustResult = "not_signed_by_given_key"
	resultDamaged     trustResult = "damaged"
)

func (r trustResult) err() error {
	if r == resultSound || r == resultAccepted {
		return nil
	}
	return cli.FindingError{}
}

type checkpointJSON struct {
	Size int64      `json:"size"`
	Root audit.Hash `json:"root"`
	Time time.Time  `json:"time"`
}

func newCheckpointJSON(c audit.Checkpoint) *checkpointJSON {
	if c.Size == 0 {
		return nil
	}
	return &checkpointJSON{c.Size, c.Root, c.Time.UTC()}
}

// verifyJSON is the report of `audit verify`.
type verifyJSON struct {
	Result     trustResult            `json:"result"`
	Sealed     int64                  `json:"sealed_events"`
	Unsealed   int64                  `json:"unsealed_events"`
	Expired    int64                  `json:"expired_events"`
	Missing    int64                  `json:"missing_events"`
	Late       int64                  `json:"late_events"`
	Silences   int64                  `json:"silences"`
	Writers    int                    `json:"writers"`
	Unsigned   []unsignedJSON         `json:"unsigned_writers"` // at most 100
	Checkpoint *checkpointJSON        `json:"checkpoint"`       // the latest that is valid
	Anchored   *checkpointJSON        `json:"anchored"`         // the largest from outside that is valid
	Vouched    bool                   `json:"vouched"`          // a given key signed it
	Counts     map[audit.Damage]int64 `json:"counts"`
	Findings   []string               `json:"findings"`
	Warnings   []string               `json:"warnings"`
}

// unsignedJSON is a writer of which no event shows a key of the log.
type unsignedJSON struct {
	Writer  string `json:"writer"`
	Events  int64  `json:"events"`
	Started bool   `json:"started"`
}

func printVerifyJSON(out io.Writer, r *audit.Report, given *givenTrust) error {
	j := verifyJSON{
		Result: verifyResult(r, given), Sealed: r.Leaves, Unsealed: r.Unsealed, Expired: r.Expired, Missing: r.Missing,
		Late: int64(r.Lateness.Count), Silences: int64(r.Cadence.Count),
		Checkpoint: newCheckpointJSON(r.Covered), Anchored: newCheckpointJSON(r.Anchored), Vouched: r.Vouched,
		Writers: r.Writers, Unsigned: []unsignedJSON{}, Counts: r.Counts, Findings: []string{}, Warnings: append(append([]string{}, given.warnings...), r.Warnings...),
	}
	if j.Counts == nil {
		j.Counts = map[audit.Damage]int64{}
	}
	for _, w := range r.Unsigned {
		j.Unsigned = append(j.Unsigned, unsignedJSON(w))
	}
	for _, f := range r.Findings {
		j.Findings = append(j.Findings, f.String())
	}
	return printResult(out, j, j.Result)
}

// packJSON is the report of `audit evidence` and `audit evidence check`.
type packJSON struct {
	Result    trustResult `json:"result"`
	Directory string      `json:"directory"`
	Since     time.Time   `json:"since"`
	Until     time.Time   `json:"until"`
	Decisions int64       `json:"decisions"`
	Manifest  string      `json:"manifest_sha256,omitempty"`
	SignedBy  audit.Key   `json:"signed_by,omitempty"`
	Findings  []string    `json:"findings"`
	Warnings  []string    `json:"warnings"`
	Notes     []string    `json:"notes"`
}

func printBuiltJSON(out io.Writer, dir string, b *evidence.Built, result trustResult) error {
	j := packJSON{
		Result: result, Directory: dir, Since: b.Manifest.Parameters.From, Until: b.Manifest.Parameters.To, Decisions: b.Manifest.Population,
		Manifest: hex.EncodeToString(b.Digest[:]), Findings: append([]string{}, b.Facts.Result.Findings...), Warnings: []string{}, Notes: []string{},
	}
	return printResult(out, j, result)
}

func printCheckedJSON(out io.Writer, dir string, r *evidence.Checked, given *givenTrust, result trustResult) error {
	j := packJSON{
		Result: result, Directory: dir, SignedBy: r.SignedBy, Findings: append([]string{}, r.Findings...),
		Warnings: append(append([]string{}, given.warnings...), r.Warnings...), Notes: append([]string{}, r.Notes...),
	}
	if m := r.Manifest; m != nil {
		j.Since, j.Until, j.Decisions = m.Parameters.From, m.Parameters.To, m.Population
	}
	return printResult(out, j, result)
}

func printResult(out io.Writer, report any, result trustResult) error {
	if err := cli.PrintJSON(out, report); err != nil {
		return err
	}
	return result.err()
}
