package resource

import (
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/webhook"
)

// maxPattern bounds a pattern in bytes.
const maxPattern = 250

// Pattern matches names of branches and tags, and URLs of pull requests. The zero Pattern
// matches nothing. It is immutable.
type Pattern struct{ form *regexp.Regexp }

// ParsePattern returns a pattern. An asterisk matches any characters except a slash, two
// asterisks match any characters. All others match themselves.
func ParsePattern(text string) (Pattern, error) {
	switch {
	case text == "" || len(text) > maxPattern:
		return Pattern{}, errors.New("a pattern has 1 to 250 bytes")
	case strings.HasPrefix(text, "refs/"):
		return Pattern{}, errors.New("write the name without refs/heads/ or refs/tags/")
	case strings.Contains(text, "***"):
		return Pattern{}, errors.New("three asterisks: write * within a segment, or ** across slashes")
	case strings.ContainsFunc(text, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r == '\ufffd' || strings.ContainsRune(`?[]{}^~\`, r)
	}):
		return Pattern{}, errors.New("a name never has one of its characters; only * and ** are special")
	}
	var form strings.Builder
	form.WriteString(`\A(?s:`)
	for i, across := range strings.Split(text, "**") {
		if i > 0 {
			form.WriteString(`.*`)
		}
		for j, part := range strings.Split(across, "*") {
			if j > 0 {
				form.WriteString(`[^/]*`)
			}
			form.WriteString(regexp.QuoteMeta(part))
		}
	}
	form.WriteString(`)\z`)
	compiled, err := regexp.Compile(form.String())
	if err != nil {
		return Pattern{}, errors.New("the pattern is not valid UTF-8")
	}
	return Pattern{compiled}, nil
}

// ParsePullRequestPattern returns a pattern of URLs of pull requests, which match in lower
// case and without a slash at the end.
func ParsePullRequestPattern(text string) (Pattern, error) {
	if !strings.HasPrefix(text, "https://") && !strings.HasPrefix(text, "http://") {
		return Pattern{}, errors.New("write a URL such as https://bitbucket.org/acme/deploy/pull-requests/*")
	}
	page := pageURL(text)
	if page == "" {
		return Pattern{}, errors.New("a pull request's URL has no query, fragment or user information")
	}
	return ParsePattern(page)
}

// Matches reports whether the pattern matches the whole text.
func (p Pattern) Matches(text string) bool { return p.form != nil && p.form.MatchString(text) }

// Match is the condition under which a delivery refreshes a resource. The zero Match is
// never met. It must not be changed while it is used.
type Match struct {
	// Repositories are addresses as [webhook.NormalizeURL] returns them. A push to one of
	// them, or a merge into it, refreshes the resource.
	Repositories []string
	// Branches and Tags limit this to refs of these names. Both empty: every ref.
	Branches, Tags []Pattern
	// PullRequests are the URLs of the pull requests whose end refreshes the resource.
	PullRequests []Pattern
}

// ends are the events that end a pull request.
var ends = []string{"pullrequest:fulfilled", "pullrequest:rejected", "pr:merged", "pr:declined"}

// Matches reports whether an event meets the condition. Deleted refs never do: a push that
// only deletes refreshes nothing. An event that does not list all its refs meets every
// condition on refs. It is false for nil.
//
// Bitbucket's events do not list changed files: there is no condition on paths.
func (m *Match) Matches(e *webhook.Event) bool {
	if e == nil {
		return false
	}
	if pr := e.PullRequest; pr != nil && slices.Contains(ends, e.Key) && matchesAny(m.PullRequests, pageURL(pr.URL)) {
		return true
	}
	if !webhook.Refreshable(e.Kind, e.Key) || !m.isRepository(changed(e)) {
		return false
	}
	return e.Incomplete || slices.ContainsFunc(e.Refs, m.isRef)
}

// changed returns the addresses of the repository whose refs changed: the one that the
// receiver admitted. [webhook.Parse] binds the destination of a pull request to it.
func changed(e *webhook.Event) []string {
	if e.Repository == nil {
		return nil
	}
	return e.Repository.URLs
}

func (m *Match) isRepository(addresses []string) bool {
	return slices.ContainsFunc(addresses, func(address string) bool {
		normal, err := webhook.NormalizeURL(address)
		return err == nil && slices.Contains(m.Repositories, normal)
	})
}

func (m *Match) isRef(r webhook.Ref) bool {
	switch {
	case r.Change != webhook.Created && r.Change != webhook.Updated:
		return false
	case len(m.Branches) == 0 && len(m.Tags) == 0:
		return true
	case r.Type == webhook.Branch:
		return matchesAny(m.Branches, r.Name)
	default:
		return r.Type == webhook.Tag && matchesAny(m.Tags, r.Name)
	}
}

func matchesAny(patterns []Pattern, text string) bool {
	return text != "" && slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Matches(text) })
}

// pageURL is the form of a page's URL by which URLs are compared. A URL with a query or a
// fragment is not that of a pull request.
func pageURL(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return ""
	}
	return strings.ToLower(strings.TrimRight(text, "/"))
}
