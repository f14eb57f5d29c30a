package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

var webhookNameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,62}$`)

// webhookName is the name of a receiver or of an endpoint.
var webhookName = kind[string]{
	name: "name", want: "a name such as policy",
	parse: func(_ *decoder, text string) (string, *problem) {
		if !webhookNameForm.MatchString(text) {
			return "", wanted("a name such as policy", text, "lower-case letters, digits, - and _ are accepted, at most 63")
		}
		return text, nil
	},
}

var webhookPathForm = regexp.MustCompile(`^(/[A-Za-z0-9_~.-]+)+$`)

// agentPaths are those of the agents' protocol, on the same listener.
const agentPaths = "/agent/"

// webhookPath has one spelling: no escapes, no dot segments, no slash at its end.
var webhookPath = kind[string]{
	name: "URL path", want: "a path such as /hooks/policy",
	parse: func(_ *decoder, text string) (string, *problem) {
		dots := slices.ContainsFunc(strings.Split(text, "/"), func(segment string) bool { return segment == "." || segment == ".." })
		if len(text) > 512 || !webhookPathForm.MatchString(text) || dots {
			return "", wanted("a path such as /hooks/policy", text, "begin with /, and write segments of letters, digits and - _ . ~ without a slash at the end")
		}
		if strings.HasPrefix(text+"/", agentPaths) {
			return "", problemf("choose another path", "paths below %s belong to agents", agentPaths)
		}
		return text, nil
	},
}

var webhookKinds = map[string]webhook.Kind{webhook.Cloud.String(): webhook.Cloud, webhook.DataCenter.String(): webhook.DataCenter}

var webhookKind = kind[webhook.Kind]{
	name: "cloud \\| data_center", want: "cloud or data_center",
	parse: func(_ *decoder, text string) (webhook.Kind, *problem) {
		k, ok := webhookKinds[text]
		if !ok {
			return 0, wanted("cloud or data_center", text, "")
		}
		return k, nil
	},
}

var fullNameForm = regexp.MustCompile(`^[A-Za-z0-9_~.-]{1,128}/[A-Za-z0-9_.-]{1,128}$`)

// uuidLike is a text that can only be meant as a UUID.
var uuidLike = regexp.MustCompile(`^\{|\}$|^[0-9A-Fa-f]{6,}-|-[0-9A-Fa-f]{10,}$|^[0-9A-Fa-f]{30,}$`)

// webhookRepository is a UUID or a full name. Data Center's project keys have capitals, and
// those of users begin with a tilde.
var webhookRepository = kind[string]{
	name: "UUID or full name", want: "a repository such as acme/egress-policy, or its UUID",
	parse: func(_ *decoder, text string) (string, *problem) {
		if canonical, ok := uuid.Parse(text); ok {
			return canonical, nil
		}
		_, slug, named := strings.Cut(text, "/")
		if !named && uuidLike.MatchString(text) {
			return "", problemf("write the UUID with its 32 hexadecimal digits and 4 hyphens, with or without braces", "%s is not a valid UUID", quote(text))
		}
		if _, ok := uuid.Parse(slug); ok {
			return "", problemf("write the UUID alone, or the repository's slug", "no full name has a UUID: %s", quote(text))
		}
		if !fullNameForm.MatchString(text) {
			return "", wanted("a repository such as acme/egress-policy, or its UUID", text, "a full name is the workspace's slug or the project's key, a slash, and the repository's slug; patterns are not accepted")
		}
		return text, nil
	},
}

var webhookEvent = kind[string]{
	name: "event", want: "an event such as repo:push",
	parse: func(_ *decoder, text string) (string, *problem) {
		if webhook.IsEvent(webhook.Cloud, text) || webhook.IsEvent(webhook.DataCenter, text) {
			return text, nil
		}
		if text == webhook.Ping {
			return "", problemf("remove it", "the connection test of Data Center needs no entry: it is answered and changes nothing")
		}
		return "", wanted("an event such as repo:push", text, didYouMean(text, slices.Concat(webhook.Events(webhook.Cloud), webhook.Events(webhook.DataCenter))))
	},
}

func didYouMean(text string, known []string) string {
	best, smallest := "", 4
	for _, k := range known {
		if far := nearest.Distance(strings.ToLower(text), k); far < smallest {
			best, smallest = k, far
		}
	}
	if best == "" {
		return ""
	}
	return "did you mean \"" + best + "\"?"
}

// networkList is a published list of networks.
var networkList = kind[string]{
	name: "network list", want: NetworksAtlassian,
	parse: choice(NetworksAtlassian).parse,
}

// webhookActions are the actions without an endpoint.
var webhookActions = []webhook.Action{webhook.RefreshPolicy, webhook.RefreshNames}

var webhookAction = kind[webhook.Action]{
	name: "action", want: "refresh_policy or refresh_names",
	parse: func(_ *decoder, text string) (webhook.Action, *problem) {
		if slices.Contains(webhookActions, webhook.Action(text)) {
			return webhook.Action(text), nil
		}
		if text == string(webhook.Forward) {
			return "", wanted("refresh_policy or refresh_names", text, "name the endpoint in forward_to")
		}
		if text == string(webhook.RefreshResource) {
			return "", wanted("refresh_policy or refresh_names", text, "name the resource in refresh_resources")
		}
		return "", wanted("refresh_policy or refresh_names", text, "")
	},
}

// webhookEndpointURL may be http, as internal systems often are, and may have a query, which
// some Jenkins plugins need.
var webhookEndpointURL = kind[*url.URL]{
	name: "endpoint URL", want: "a URL such as https://jenkins.internal.example/bitbucket-hook/",
	parse: func(d *decoder, text string) (*url.URL, *problem) {
		const want = "a URL such as https://jenkins.internal.example/bitbucket-hook/"
		u, err := url.Parse(text)
		switch {
		case err != nil || u.Hostname() == "" || u.Opaque != "" || u.Scheme != "https" && u.Scheme != "http":
			if strings.Contains(text, "@") {
				return nil, problemf("", "want %s", want)
			}
			return nil, wanted(want, text, "")
		case u.User != nil:
			return nil, problemf("remove it", "the URL has a user name or password in it")
		case strings.Contains(text, "#"):
			return nil, problemf("remove it", "the URL has a fragment")
		case u.Port() != "" && !validPort(u.Port()) || strings.HasSuffix(u.Host, ":"):
			return nil, wanted(want, text, "its port is not a number from 1 to 65535")
		}
		if u.Scheme == "http" && !loopback(u.Host) {
			d.warn(d.current, "use https:// if the endpoint offers it", "deliveries are sent to the endpoint without encryption")
		}
		return u, nil
	},
}
