package config

import (
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/webhook"
	"github.com/sallyport/sallyport/webhook/resource"
)

// checked is a text that a function accepts: want is what it is called in errors.
func checked(name, want string, check func(string) error) kind[string] {
	return kind[string]{
		name: name, want: want,
		parse: func(_ *decoder, text string) (string, *problem) {
			if err := check(text); err != nil {
				return "", wanted(want, text, err.Error())
			}
			return text, nil
		},
	}
}

// refPattern is a pattern that the short name of a branch or tag can match.
var refPattern = kind[string]{
	name: "pattern", want: "a pattern",
	parse: func(d *decoder, text string) (string, *problem) {
		if _, err := resource.ParsePattern(text); err != nil {
			return "", wanted("a pattern", text, err.Error())
		}
		if !refForm(text) {
			return "", problemf("write it as Bitbucket shows the name, such as main or release/*", "no branch or tag has a name like %s", quote(text))
		}
		for _, prefix := range []string{"origin/", "heads/", "tags/"} {
			if bare, found := strings.CutPrefix(text, prefix); found {
				d.warn(d.current, "write "+quote(bare)+", unless the name itself begins so", "the names of branches and tags in deliveries have no %s before them", prefix)
			}
		}
		return text, nil
	},
}

// refForm reports whether a name that Git accepts can match a pattern: git-check-ref-format(1).
func refForm(pattern string) bool {
	if strings.ContainsAny(pattern, ":") || pattern == "@" || strings.HasSuffix(pattern, ".") {
		return false
	}
	for _, never := range []string{"..", "@{", "//"} {
		if strings.Contains(pattern, never) {
			return false
		}
	}
	return !slices.ContainsFunc(strings.Split(pattern, "/"), func(segment string) bool {
		return segment == "" || strings.HasPrefix(segment, ".") || strings.HasSuffix(segment, ".lock")
	})
}

var pullRequestPattern = checked("pattern", "a pattern of URLs", func(text string) error {
	if _, err := resource.ParsePullRequestPattern(text); err != nil {
		return err
	}
	if !pullRequestForm(text) {
		return errNoPullRequest
	}
	return nil
})

var errNoPullRequest = errors.New("no pull request has such a URL: write https://bitbucket.org/WORKSPACE/REPOSITORY/pull-requests/*, or for Data Center https://HOST/projects/KEY/repos/REPOSITORY/pull-requests/*")

// pullRequestForm reports whether a pattern can match the URL of a pull request. In Cloud, the
// path is workspace, repository, "pull-requests" and a number; Data Center's ends in
// projects/KEY/repos/SLUG/pull-requests/NUMBER, or users/NAME/repos/… for a personal one.
func pullRequestForm(pattern string) bool {
	scheme, address, _ := strings.Cut(strings.ToLower(strings.TrimRight(pattern, "/")), "://")
	segments := strings.Split(address, "/")
	if strings.Contains(pattern, "**") {
		return true
	}
	// matches reports whether the segment at a place from the end can be one of the texts.
	matches := func(fromEnd int, texts ...string) bool {
		if len(segments)-fromEnd < 1 {
			return false
		}
		p, err := resource.ParsePattern(segments[len(segments)-fromEnd])
		return err == nil && slices.ContainsFunc(texts, p.Matches)
	}
	if !matches(2, "pull-requests") || strings.Trim(segments[len(segments)-1], "0123456789*") != "" {
		return false
	}
	if segments[0] == cloudHost {
		return scheme == "https" && len(segments) == 5
	}
	return matches(4, "repos") && matches(6, "projects", "users")
}

// repositoryURL is normalized: the forms of one repository's address are equal.
var repositoryURL = kind[string]{
	name: "repository URL", want: "a URL such as https://bitbucket.org/acme/app.git",
	parse: func(_ *decoder, text string) (string, *problem) {
		normal, err := webhook.NormalizeURL(text)
		if err != nil {
			return "", problemf(err.Error(), "want a URL such as https://bitbucket.org/acme/app.git, or git@bitbucket.org:acme/app.git")
		}
		return normal, nil
	},
}

// kubernetesURL is https: a token is sent to it.
var kubernetesURL = kind[*url.URL]{
	name: "URL", want: "a URL such as https://kubernetes.default.svc",
	parse: func(_ *decoder, text string) (*url.URL, *problem) {
		u, p := parseURL(text, "https")
		if p != nil {
			return nil, p
		}
		if u.Scheme != "https" {
			return nil, problemf("write https://", "the token would be sent without encryption")
		}
		return u, nil
	},
}

const maxAnnotationValue = 200

var annotationValue = checked("text", "a text of at most 200 bytes", func(text string) error {
	if len(text) > maxAnnotationValue {
		return errTooLong
	}
	return nil
})
