package check

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/webhook"
)

// deliveryValues check a string that a field of the input about a delivery is compared
// with, by the field's path. Other fields may have any value.
var deliveryValues = map[string]func(u *Unit, s string) mistake{
	"receiver":                            receiver,
	"kind":                                oneOf("input.kind", "cloud", "data_center"),
	"event":                               event,
	"repository.uuid":                     uuidValue,
	"repository.full_name":                deliveredName,
	"repository.project":                  deliveredProject,
	"refs.*.type":                         oneOf("the type of a ref", "branch", "tag"),
	"refs.*.change":                       oneOf("the change of a ref", "created", "updated", "deleted"),
	"refs.*.name":                         refName,
	"refs.*.old":                          objectName,
	"refs.*.new":                          objectName,
	"pull_request.state":                  oneOf("input.pull_request.state", "OPEN", "MERGED", "DECLINED", "SUPERSEDED"),
	"pull_request.merge_commit":           objectName,
	"pull_request.source.repository.uuid": uuidValue,
	"pull_request.source.repository.full_name":      deliveredName,
	"pull_request.source.repository.project":        deliveredProject,
	"pull_request.source.branch":                    refName,
	"pull_request.source.commit":                    objectName,
	"pull_request.destination.repository.uuid":      uuidValue,
	"pull_request.destination.repository.full_name": deliveredName,
	"pull_request.destination.repository.project":   deliveredProject,
	"pull_request.destination.branch":               refName,
	"pull_request.destination.commit":               objectName,
	"actor.uuid":                                    uuidValue,
	"actor.kind":                                    actorKind,
	"client.address":                                clientAddress,
}

// These begin the message about a name that is not configured: see [Unit.Receivers].
const (
	UnknownReceiver = "no receiver is named "
	UnknownEndpoint = "no endpoint is named "
	UnknownResource = "no resource is named "
)

// receiver judges by the configured receivers, if they are known.
func receiver(u *Unit, s string) mistake {
	return configured(u.Receivers, UnknownReceiver, s)
}

// configured judges a name by those in the configuration; nil: they are not known.
func configured(known []string, unknown, s string) mistake {
	if known == nil {
		return mistake{}
	}
	for _, name := range known {
		if name == s {
			return mistake{}
		}
	}
	hint := "none is configured"
	if len(known) > 0 {
		hint = "the configuration has " + orList(known)
	}
	if n := nearest.Of(s, known); n != "" {
		hint = "did you mean " + n + "?"
	}
	return mistake{message: unknown + fmt.Sprintf("%q", s), hint: hint, warning: true}
}

// event judges an event key by those that Bitbucket documents.
func event(_ *Unit, s string) mistake {
	switch {
	case webhook.IsEvent(webhook.Cloud, s) || webhook.IsEvent(webhook.DataCenter, s):
		return mistake{}
	case s == webhook.Ping:
		return mistake{message: fmt.Sprintf("input.event is never %q: a ping is not a delivery", s), hint: "remove it"}
	}
	hint := "write it as Bitbucket does, such as repo:push (Cloud) or repo:refs_changed (Data Center)"
	known := append(webhook.Events(webhook.Cloud), webhook.Events(webhook.DataCenter)...)
	if n := nearest.Of(strings.ToLower(strings.TrimSpace(s)), known); n != "" {
		hint = fmt.Sprintf("did you mean %q?", n)
	}
	return mistake{message: fmt.Sprintf("input.event is never %q", s), hint: hint}
}

// deliveredName judges a full name. Cloud writes two slugs; Data Center writes the
// project's key in upper case, or ~ and a user, before the slash.
func deliveredName(u *Unit, s string) mistake {
	if dataCenterName.MatchString(s) {
		return mistake{}
	}
	return fullName(u, s)
}

func deliveredProject(u *Unit, s string) mistake {
	if strings.HasPrefix(s, "~") {
		return mistake{}
	}
	return project(u, s)
}

// refName judges the name of a branch or tag.
func refName(u *Unit, s string) mistake {
	if bare := strings.TrimPrefix(s, "refs/tags/"); bare != s {
		return never(s, "a tag has no refs/tags/ before it", "write "+bare)
	}
	m := branch(u, s)
	m.hint = strings.ReplaceAll(m.hint, `use startswith(input.principal.branch, "release/")`, `use startswith(ref.name, "release/")`)
	m.hint = strings.ReplaceAll(m.hint, "; a run without a branch has no input.principal.branch", "")
	return m
}

// objectName judges the name of a Git object, which may be abbreviated.
func objectName(_ *Unit, s string) mistake {
	switch {
	case s != "" && strings.Trim(s, "0") == "":
		return never(s, "a ref that was created or deleted has no object name on that side", "compare its change instead")
	case !objectNameForm.MatchString(s):
		return never(s, "it is not the name of a Git object", "write 7 to 64 hexadecimal digits in lower case")
	}
	return mistake{}
}

func actorKind(_ *Unit, s string) mistake {
	if s == strings.ToLower(s) {
		return mistake{}
	}
	return never(s, "it is in lower case", "write "+strings.ToLower(s))
}

var (
	dataCenterName = regexp.MustCompile(`^([A-Z][A-Z0-9_]*|~[A-Za-z0-9_.-]+)/[a-z0-9_.-]{1,128}$`)
	objectNameForm = regexp.MustCompile(`^[0-9a-f]{7,64}$`)
)
