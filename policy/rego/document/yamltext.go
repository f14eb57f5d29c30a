package document

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/goccy/go-yaml/token"
)

// checkYAMLText refuses a text that YAML reads in another way than it looks: one that
// goes over more than one line swallows the entry on the next, and a space that is
// not a plain one does not indent.
func checkYAMLText(at Position, t *token.Token, value string) error {
	if t == nil {
		return nil
	}
	// Line breaks of the text itself are written as \n between quotes, or below | or >.
	if written := strings.TrimSpace(t.Origin); strings.ContainsAny(written, "\r\n") {
		return &Error{At: at, Message: "the text goes over more than one line, and is read as one: " + quoteShort(value),
			Hint: "begin each entry with - on a line of its own, at the same column; write a long text behind |"}
	}
	if t.Type != token.StringType {
		return nil
	}
	first, _ := utf8.DecodeRuneInString(value)
	if strings.ContainsRune("\u201c\u201d\u2018\u2019\u201e\u00ab", first) && value != "" {
		return &Error{At: at, Message: "typographic quotes are a part of the text: " + quoteShort(value), Hint: `write plain quotes: "`}
	}
	for _, r := range value {
		if unicode.Is(unicode.Cf, r) || r != ' ' && unicode.IsSpace(r) || r == '\u2028' || r == '\u2029' {
			return &Error{At: at, Message: fmt.Sprintf("the text has an invisible character, U+%04X: %s", r, quoteShort(value)), Hint: "write a plain space, or type the text again instead of copying it"}
		}
	}
	return nil
}

// checkYAMLNumber refuses a number that is read as another text than it is written:
// 010 is 8, and 1.10 is 1.1.
func checkYAMLNumber(at Position, t *token.Token, read string) error {
	if t == nil {
		return nil
	}
	if written := strings.TrimPrefix(strings.TrimSpace(t.Value), "+"); written != read {
		return &Error{At: at, Message: fmt.Sprintf("%s is read as the number %s", written, read), Hint: fmt.Sprintf("write %s, or put it in quotes if it is a text: %q", read, written)}
	}
	return nil
}

func quoteShort(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "\u2026"
	}
	return fmt.Sprintf("%q", s)
}

// quotesNeeded is a text that YAML takes for something else by its first byte.
var quotesNeeded = regexp.MustCompile("(?:^|[\\s\\[{,])([*&!%@`][^\\s,\\]}:\"'`]+)")

// yamlHint is what to write instead on a line that is not YAML, "" where nothing
// better is known than what is wrong.
func yamlHint(content []byte, line int) string {
	text := Line(content, line)
	if len(text) > 10_000 {
		return ""
	}
	if found := quotesNeeded.FindSubmatch(text); found != nil {
		return fmt.Sprintf("put it in quotes: %q", string(found[1]))
	}
	switch trimmed := strings.TrimLeft(string(text), " "); {
	case strings.HasPrefix(trimmed, "\t"):
		return "indent with spaces and not with tabs"
	case len(trimmed) > 1 && trimmed[0] == '-' && trimmed[1] != ' ':
		return "write a space behind the -"
	}
	return ""
}

// Line is a line of a text, from 1.
func Line(content []byte, line int) []byte {
	for ; line > 1; line-- {
		i := bytes.IndexByte(content, '\n')
		if i < 0 {
			return nil
		}
		content = content[i+1:]
	}
	if i := bytes.IndexByte(content, '\n'); i >= 0 {
		content = content[:i]
	}
	return content
}
