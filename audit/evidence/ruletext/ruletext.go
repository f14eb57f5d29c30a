// Package ruletext finds the text of the rule that decided, in the policy that the log
// keeps.
package ruletext

import (
	"fmt"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
	"github.com/sallyport/sallyport/policy"
)

// Find finds the text of the rule that a decision names, in the policy that decided
// it: record is the decision's, and content returns that of a revision as the log
// keeps it, or nil. If the policy has no such text, rules is empty and none is the reason,
// as a sentence for the reader. Find returns an error for a record that cannot be read, and
// the errors of content.
func Find(record []byte, content func(revision string) ([]byte, error)) (rules []pack.RuleText, none string, err error) {
	s, err := recorded.Read(record)
	if err != nil {
		return nil, "", fmt.Errorf("quote a rule: %w", err)
	}
	text, own, err := Contents(s, content)
	if err != nil {
		return nil, "", err
	}
	rules, none = Extract(s, text, own)
	return rules, none, nil
}

// Contents returns the content of the revision that made a decision, and that of the
// earlier one whose rules of the repository took part; nil: of none, or it is not there.
func Contents(s *recorded.Event, content func(revision string) ([]byte, error)) (text, own []byte, err error) {
	if s.Revision != "" {
		if text, err = content(s.Revision); err != nil {
			return nil, nil, err
		}
	}
	if s.OwnRevision != "" {
		own, err = content(s.OwnRevision)
	}
	return text, own, err
}

// Extract quotes from content, and the repository's rules from own where those of an
// earlier revision took part.
func Extract(s *recorded.Event, content, own []byte) (rules []pack.RuleText, none string) {
	snapshot := SnapshotOf(content, s.Revision, s.Commit)
	if s.OwnRevision != "" {
		snapshot = withRepositories(snapshot, SnapshotOf(own, s.OwnRevision, ""))
	}
	switch {
	case s.Rule == "" && s.Revision == "":
		return nil, "Policy was not evaluated: the request was refused before, with the reason " + s.Reason + "."
	case s.Rule == "":
		return nil, "No rule matched: without an allowing rule a request is refused."
	case snapshot == nil:
		return nil, "The log does not hold this revision's files, or they are not those of its digest."
	default:
		if rules = rulesOf(snapshot, s); len(rules) == 0 {
			return nil, "The policy's files do not name the rule " + s.Rule + " as a literal."
		}
		return rules, ""
	}
}

// withRepositories is a policy with the repositories' folders of another one; nil where
// either is missing.
func withRepositories(s, other *policy.Snapshot) *policy.Snapshot {
	if s == nil || other == nil {
		return nil
	}
	both := &policy.Snapshot{}
	for _, f := range s.Files {
		if !strings.HasPrefix(f.Path, "repositories/") {
			both.Files = append(both.Files, f)
		}
	}
	for _, f := range other.Files {
		if strings.HasPrefix(f.Path, "repositories/") {
			both.Files = append(both.Files, f)
		}
	}
	return both
}
