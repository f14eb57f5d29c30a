package config

import (
	"net/url"

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

var refPattern = checked("pattern", "a pattern", func(text string) error {
	_, err := resource.ParsePattern(text)
	return err
})

var pullRequestPattern = checked("pattern", "a pattern of URLs", func(text string) error {
	_, err := resource.ParsePullRequestPattern(text)
	return err
})

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
