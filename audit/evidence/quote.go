package evidence

import "fmt"

// Quote finds the text of the rule that a decision names, in the policy that decided
// it: record is the decision's, and content that of its revision as the log keeps it,
// or nil. Where there is no text, none says why. The error is of a record that cannot
// be read.
func Quote(record, content []byte) (rules []RuleText, none string, err error) {
	s, err := read(record)
	if err != nil {
		return nil, "", fmt.Errorf("quote a rule: %w", err)
	}
	rules, none = quote(s, content)
	return rules, none, nil
}

func quote(s *said, content []byte) (rules []RuleText, none string) {
	switch snapshot := snapshotOf(content, s.Revision, s.Commit); {
	case s.Rule == "" && s.Revision == "":
		return nil, "Policy was not asked: it was refused before, with the reason " + s.Reason + "."
	case s.Rule == "":
		return nil, "No rule decided: where none allows, it is refused."
	case snapshot == nil:
		return nil, "The log does not hold this revision's files, or they are not those of its digest."
	default:
		if rules = rulesOf(snapshot, s); len(rules) == 0 {
			return nil, "The policy's files do not name the rule " + s.Rule + " as a literal."
		}
		return rules, ""
	}
}
