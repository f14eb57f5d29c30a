package ruletext

import (
	"bytes"
	"strings"

	"github.com/sallyport/sallyport/audit/evidence/pack"
	"github.com/sallyport/sallyport/audit/recorded"
	"github.com/sallyport/sallyport/policy"
)

// maxRuleBytes bounds what is quoted of one statement.
const maxRuleBytes = 16 << 10

// rulesOf finds the statements that a rule is written in: those that name its id,
// which the loader wants as a literal string. It checks the organization's files
// and at those in the repository's folder, which bears its full name or, where
// names are not known, its UUID. It is the text that is searched, so that what is
// quoted is what anybody finds by looking.
func rulesOf(s *policy.Snapshot, of *recorded.Event) []pack.RuleText {
	var found []pack.RuleText
	for _, f := range s.Files {
		if !mayHold(f.Path, of) {
			continue
		}
		found = append(found, statements(f, of.Rule)...)
	}
	return found
}

// mayHold reports whether a file may hold the rule of a decision: one about requests, or
// one about webhook deliveries.
func mayHold(path string, of *recorded.Event) bool {
	if !strings.HasSuffix(path, ".rego") || strings.HasSuffix(path, "_test.rego") {
		return false
	}
	delivery := of.Action == "webhook"
	organization, repository := "egress/", of.Repository
	if delivery {
		// Data Center writes project keys in upper case; folders are in lower case.
		organization, repository = "webhook/", strings.ToLower(of.Repository)
	}
	if strings.HasPrefix(path, organization) {
		return true
	}
	own := repository != "" && strings.HasPrefix(path, "repositories/"+repository+"/") ||
		of.RepositoryUUID != "" && strings.HasPrefix(path, "repositories/") && strings.Contains(path, "/"+of.RepositoryUUID+"/")
	parts := strings.Split(path, "/")
	return own && (len(parts) == 5 && parts[3] == "webhook") == delivery
}

// statements are those of a file that name the rule. A statement begins where a
// line begins with a letter, with the comments right above it.
func statements(f policy.File, rule string) []pack.RuleText {
	lines := strings.Split(strings.ToValidUTF8(string(f.Content), "\uFFFD"), "\n")
	var found []pack.RuleText
	for i := 0; i < len(lines); {
		if !begins(lines[i]) {
			i++
			continue
		}
		first, last := i, i
		for i++; i < len(lines) && !begins(lines[i]); i++ {
			if text := strings.TrimSpace(lines[i]); text != "" && !strings.HasPrefix(lines[i], "#") {
				last = i
			}
		}
		text := strings.Join(lines[first:last+1], "\n")
		if !namesRule(text, rule) {
			continue
		}
		for first > 0 && strings.HasPrefix(lines[first-1], "#") {
			first--
		}
		text = strings.Join(lines[first:last+1], "\n")
		if len(text) > maxRuleBytes {
			text = strings.ToValidUTF8(text[:maxRuleBytes], "") + "…"
		}
		found = append(found, pack.RuleText{File: f.Path, First: first + 1, Last: last + 1, Text: text})
	}
	return found
}

func begins(line string) bool {
	return line != "" && (line[0] >= 'a' && line[0] <= 'z' || line[0] >= 'A' && line[0] <= 'Z' || line[0] == '_')
}

// namesRule reports whether a statement names the rule as its id.
func namesRule(statement, rule string) bool {
	rest := statement
	for {
		_, after, ok := strings.Cut(rest, `"rule"`)
		if !ok {
			return false
		}
		after = strings.TrimLeft(after, " \t\n")
		if value, ok := strings.CutPrefix(after, ":"); ok {
			value = strings.TrimLeft(value, " \t\n")
			if strings.HasPrefix(value, `"`+rule+`"`) || strings.HasPrefix(value, "`"+rule+"`") {
				return true
			}
		}
		rest = after
	}
}

// SnapshotOf reads a policy that the log keeps; nil where it is not what its
// digest covers.
func SnapshotOf(content []byte, digest, commit string) *policy.Snapshot {
	if content == nil {
		return nil
	}
	s, err := policy.ParseContent(bytes.Clone(content), commit)
	if err != nil || s.Digest != digest {
		return nil
	}
	return s
}
