package archtest

import (
	"bufio"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The kinds of text that TestDialect reads.
const (
	inDocs     = "docs"     // Markdown without code blocks and code spans
	inMessages = "messages" // string literals of Go files that are not tests: CLI help, errors, logs
	inSQL      = "sql"      // comments and string literals of migrations
	inComments = "comments" // comments of Go files
)

var media = []string{inDocs, inMessages, inSQL, inComments}

// passage is text with its place.
type passage struct {
	medium, path string
	line         int
	text         string
}

// dialectRule is a line of testdata/dialect.txt: what must not be written, the term
// of the field, and how many findings each medium may still have.
type dialectRule struct {
	pattern *regexp.Regexp
	instead string
	allowed map[string]int
}

// TestDialect holds the project's former dialect out of documents, messages and
// comments. A number in testdata/dialect.txt is what is left to work off: it may
// only become smaller.
func TestDialect(t *testing.T) {
	t.Parallel()
	rules := dialectRules(t)
	found := map[*dialectRule]map[string][]string{}
	for _, p := range passages(t, "../..") {
		for _, r := range rules {
			for _, at := range r.pattern.FindAllStringIndex(p.text, -1) {
				if plain.MatchString(p.text[at[0]:at[1]]) {
					continue
				}
				if found[r] == nil {
					found[r] = map[string][]string{}
				}
				line := p.line + strings.Count(p.text[:at[0]], "\n")
				found[r][p.medium] = append(found[r][p.medium], fmt.Sprintf("%s:%d: %q: write %s", p.path, line, p.text[at[0]:at[1]], r.instead))
			}
		}
	}
	for _, r := range rules {
		for _, medium := range media {
			if list := found[r][medium]; len(list) > r.allowed[medium] {
				t.Errorf("%d in %s, %d allowed:\n%s", len(list), medium, r.allowed[medium], strings.Join(list, "\n"))
			}
		}
		t.Logf("%-40s docs %d, messages %d, sql %d, comments %d", r.pattern, len(found[r][inDocs]), len(found[r][inMessages]), len(found[r][inSQL]), len(found[r][inComments]))
	}
}

// plain is English that a rule's pattern matches too: an existence, and "no longer".
var plain = regexp.MustCompile(`(?i)^(?:there|here) |no (?:longer|more|less|such|better|larger|limit|room|time|way|need|later|one)$`)

// maxWords is how long a sentence in a document may be. The aim is 25 words.
const (
	maxWords         = 32
	longSentencesNow = 0
)

// TestProseIsRead proves that text of each medium is read, and that code is not.
func TestProseIsRead(t *testing.T) {
	t.Parallel()
	read := map[string]bool{}
	for _, p := range goPassages(t, "a.go", []byte("package a\n\n// one\nvar x = \"two\" + `three`\n")) {
		read[p.medium+fmt.Sprint(p.line)+strings.Trim(p.text, "/ \"`")] = true
	}
	for _, p := range sqlPassages("a.sql", "SELECT 1; -- four\nCOMMENT ON TABLE t IS 'it''s five';") {
		read[p.medium+fmt.Sprint(p.line)+strings.Trim(p.text, "- '")] = true
	}
	read[withoutCode("six `code` [seven](link.md)\n```\ncode\n```\neight")] = true
	for _, want := range []string{"comments3one", "messages4two", "messages4three", "sql1four", "sql2it''s five", "six `` [seven``\n`\n\n`\neight"} {
		if !read[want] {
			t.Errorf("%q is not read: %v", want, read)
		}
	}
	if list := goPassages(t, "a_test.go", []byte("package a\n\nvar x = \"two\"\n")); len(list) > 0 {
		t.Errorf("a string of a test is read: %v", list)
	}
}

// TestSentenceLength bounds the sentences of the documents.
func TestSentenceLength(t *testing.T) {
	t.Parallel()
	var long []string
	for _, p := range passages(t, "../..") {
		if p.medium != inDocs || strings.HasSuffix(p.path, "CHANGELOG.md") {
			continue
		}
		for line, text := range strings.Split(p.text, "\n") {
			for _, s := range sentenceEnd.Split(text, -1) {
				if n := len(strings.Fields(s)); n > maxWords && !strings.HasPrefix(text, "|") {
					long = append(long, fmt.Sprintf("%s:%d: %d words: %s", p.path, p.line+line, n, s))
				}
			}
		}
	}
	if len(long) > longSentencesNow {
		t.Errorf("%d sentences have more than %d words, %d may:\n%s", len(long), maxWords, longSentencesNow, strings.Join(long, "\n"))
	}
	t.Logf("%d sentences have more than %d words", len(long), maxWords)
}

var sentenceEnd = regexp.MustCompile(`[.:;!?][)*"]*\s`)

// dialectRules reads testdata/dialect.txt.
func dialectRules(t *testing.T) (rules []*dialectRule) {
	t.Helper()
	f, err := os.Open("testdata/dialect.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fields := strings.Split(line, " | ")
		if len(fields) < 2 {
			t.Fatalf("testdata/dialect.txt:%d: want PATTERN | WORD [| MEDIUM=COUNT …]", n)
		}
		pattern, err := regexp.Compile(`(?i)\b(?:` + fields[0] + `)\b`)
		if err != nil {
			t.Fatalf("testdata/dialect.txt:%d: %v", n, err)
		}
		r := &dialectRule{pattern: pattern, instead: fields[1], allowed: map[string]int{}}
		for _, allowance := range strings.Fields(strings.Join(fields[2:], " ")) {
			medium, text, _ := strings.Cut(allowance, "=")
			count, err := strconv.Atoi(text)
			if err != nil || count < 1 || !slices.Contains(media, medium) {
				t.Fatalf("testdata/dialect.txt:%d: %q: want MEDIUM=COUNT with one of %v", n, allowance, media)
			}
			r.allowed[medium] = count
		}
		rules = append(rules, r)
	}
	if err := lines.Err(); err != nil || len(rules) == 0 {
		t.Fatalf("testdata/dialect.txt: %d rules, %v", len(rules), err)
	}
	return rules
}

// passages returns all text of the repository that people read.
func passages(t *testing.T, root string) (all []passage) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := d.Name(); d.IsDir() {
			if path != root && strings.HasPrefix(name, ".") || slices.Contains([]string{"testdata", "bin", "demo-data"}, name) {
				return filepath.SkipDir
			}
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(strings.TrimPrefix(path, root+string(filepath.Separator)))
		switch filepath.Ext(path) {
		case ".md":
			all = append(all, passage{inDocs, name, 1, withoutCode(string(raw))})
		case ".sql":
			all = append(all, sqlPassages(name, string(raw))...)
		case ".go":
			all = append(all, goPassages(t, name, raw)...)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	codeBlock = regexp.MustCompile("(?ms)^[ \t]*```.*?^[ \t]*```")
	codeSpan  = regexp.MustCompile("`[^`\n]*`|\\]\\([^)\n]*\\)")
	sqlText   = regexp.MustCompile(`--[^\n]*|'(?:[^']|'')*'`)
)

// withoutCode blanks code in Markdown, and keeps its lines.
func withoutCode(text string) string {
	blank := func(s string) string { return "`" + strings.Repeat("\n", strings.Count(s, "\n")) + "`" }
	return codeSpan.ReplaceAllStringFunc(codeBlock.ReplaceAllStringFunc(text, blank), blank)
}

func sqlPassages(path, text string) (all []passage) {
	for _, at := range sqlText.FindAllStringIndex(text, -1) {
		all = append(all, passage{inSQL, path, 1 + strings.Count(text[:at[0]], "\n"), text[at[0]:at[1]]})
	}
	return all
}

// goPassages returns the comments of a Go file and, unless it is a test, its string
// literals. Struct tags, import paths and SQL without words of ours are harmless.
func goPassages(t *testing.T, path string, raw []byte) (all []passage) {
	t.Helper()
	var s scanner.Scanner
	files := token.NewFileSet()
	s.Init(files.AddFile(path, -1, len(raw)), raw, nil, scanner.ScanComments)
	for {
		pos, tok, literal := s.Scan()
		switch {
		case tok == token.EOF:
			return all
		case tok == token.COMMENT:
			all = append(all, passage{inComments, path, files.Position(pos).Line, literal})
		case tok == token.STRING && !isTestSource(path):
			all = append(all, passage{inMessages, path, files.Position(pos).Line, literal})
		}
	}
}

// isTestSource reports whether a file serves tests only.
func isTestSource(path string) bool {
	if strings.HasSuffix(path, "_test.go") {
		return true
	}
	for _, folder := range []string{"internal/bitbuckettest/", "internal/tokentest/", "internal/pgtest/", "internal/testenv/", "internal/proxytest/"} {
		if strings.HasPrefix(path, folder) {
			return true
		}
	}
	return false
}
