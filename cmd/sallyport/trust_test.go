package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sallyport/sallyport/audit"
)

// exportedLog is an export of a small log, with what a reviewer has of it.
type exportedLog struct {
	export, checkpoints string // files
	key                 audit.Key
}

func newTestSigner(t *testing.T) *audit.Signer {
	t.Helper()
	private, err := audit.GenerateKey("acme.example/egress")
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// exportLog writes a log that a key signs. The hand-over, if there is one, is its
// last event, and the same key signs the checkpoint that covers it.
func exportLog(t *testing.T, signer, next *audit.Signer) exportedLog {
	t.Helper()
	var export, published bytes.Buffer
	x := audit.NewExporter(&export)
	var tree audit.Tree
	moment := time.Date(2026, 10, 2, 10, 0, 0, 0, time.UTC)
	events := []*audit.Event{{Time: moment, Kind: audit.KindWriterStarted}, audit.Register(signer, moment), {Time: moment, Kind: audit.KindDecision, Verdict: "deny"}}
	if next != nil {
		handover, err := signer.HandOver(next, moment)
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, handover)
	}
	for i, e := range events {
		e.Writer, e.WriterSequence = "w", int64(i+1)
		e.Normalise()
		record := e.AppendRecord(nil)
		x.Sealed(&audit.Entry{Index: tree.Size(), Writer: e.Writer, Sequence: e.WriterSequence, Record: record, Hash: audit.Leaf(record)})
		tree.Append(audit.Leaf(record))
		signed, err := signer.Sign(audit.Checkpoint{Size: tree.Size(), Root: tree.Root(), Time: moment})
		if err != nil {
			t.Fatal(err)
		}
		x.Checkpoint(audit.Statement{Note: signed})
		published.Write(append(signed, '\n'))
	}
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	l := exportedLog{export: filepath.Join(t.TempDir(), "log.jsonl"), checkpoints: filepath.Join(t.TempDir(), "checkpoints"), key: signer.Key()}
	if err := errors.Join(os.WriteFile(l.export, export.Bytes(), 0o600), os.WriteFile(l.checkpoints, published.Bytes(), 0o600)); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestVerifyStatus: a log that nothing from outside vouches for never ends with 0,
// unless that is accepted explicitly.
func TestVerifyStatus(t *testing.T) {
	real := newTestSigner(t)
	log := exportLog(t, real, nil)
	// The attacker's log hands over to the real key, as if its holder had been tricked.
	forged := exportLog(t, newTestSigner(t), real)
	noted := filepath.Join(t.TempDir(), "noted")
	text, err := os.ReadFile(log.checkpoints)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(noted, append([]byte("from our meeting\nacme.example/egress\n3\n"), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		export string
		flags  []string
		status int
		result string // empty: there is no report
		want   string
	}{
		"nothing is given":                        {log.export, nil, 1, "not_anchored", "CONSISTENT, NOT ANCHORED"},
		"accepted":                                {log.export, []string{"--unanchored"}, 0, "not_anchored_accepted", "as --unanchored accepts"},
		"accepted, and a key":                     {log.export, []string{"--unanchored", "--key", string(log.key)}, 2, "", "leave it out"},
		"the key":                                 {log.export, []string{"--key", string(log.key)}, 0, "sound", "signed sizes 1 to 3; trusted"},
		"the checkpoints":                         {log.export, []string{"--checkpoint", log.checkpoints}, 0, "sound", "sound: nothing"},
		"another key":                             {log.export, []string{"--key", string(newTestSigner(t).Key())}, 1, "not_signed_by_given_key", "the log is signed by " + string(log.key)},
		"another key is not called another log":   {log.export, []string{"--key", string(newTestSigner(t).Key())}, 1, "not_signed_by_given_key", "NOT SIGNED BY THE GIVEN KEY"},
		"a forged log, nothing is given":          {forged.export, nil, 1, "not_anchored", "CONSISTENT, NOT ANCHORED"},
		"a forged log, the real key":              {forged.export, []string{"--key", string(log.key)}, 1, "not_signed_by_given_key", "which proves nothing until that key signs"},
		"a forged log, the real checkpoints":      {forged.export, []string{"--checkpoint", log.checkpoints}, 1, "damaged", "tree_changed"},
		"a log, the checkpoints of another":       {log.export, []string{"--checkpoint", forged.checkpoints}, 1, "not_anchored", "is signed by no key that was given"},
		"the key, and the checkpoints of another": {log.export, []string{"--key", string(log.key), "--checkpoint", forged.checkpoints}, 1, "not_anchored", "is signed by no key that was given"},
		"text among the checkpoints":              {log.export, []string{"--checkpoint", noted}, 0, "sound", noted + ":1: the text here is not part of a signed checkpoint"},
		"a file without a checkpoint":             {log.export, []string{"--checkpoint", log.export}, 2, "", "no signed checkpoint in the file"},
		"a file without a key":                    {log.export, []string{"--key", empty}, 2, "", "has no key in it"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			code := run(t.Context(), append([]string{"audit", "verify", "--quiet", "--export", c.export}, c.flags...), nil, &out, &errOut)
			if text := out.String() + errOut.String(); code != c.status || !strings.Contains(text, c.want) {
				t.Errorf("it ended with %d, not %d, or does not say %q:\n%s", code, c.status, c.want, text)
			}
			if c.result == "" {
				return
			}
			out.Reset()
			code = run(t.Context(), append([]string{"audit", "verify", "--format", "json", "--quiet", "--export", c.export}, c.flags...), nil, &out, io.Discard)
			var report struct {
				Result   string   `json:"result"`
				Sealed   int64    `json:"sealed_events"`
				Findings []string `json:"findings"`
			}
			if err := json.Unmarshal(out.Bytes(), &report); err != nil || code != c.status || report.Result != c.result || report.Sealed == 0 ||
				(code == exitFailed && c.result != "not_anchored") != (len(report.Findings) > 0) {
				t.Errorf("%v, %d, want %s: %s", err, code, c.result, out.String())
			}
		})
	}
}
