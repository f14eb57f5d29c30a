package rego

import (
	_ "embed"
	"slices"
	"strings"
	"sync"

	"github.com/sallyport/sallyport/policy/rego/canonical"
	"github.com/sallyport/sallyport/policy/rego/check"
)

//go:embed schema.json
var schemaJSON []byte

// domain is what rules decide about: requests of steps, or webhook deliveries. It
// determines the folders and the packages of the rules, their sets, and the input that
// they read. Immutable.
type domain struct {
	folder            string // of the organization's rules, and the name of their package
	repositoryPackage string // the package of a repository's rules, which its full name follows
	// organizationSets and repositorySets are the partial sets that the rules may define.
	organizationSets, repositorySets []string
	keys                             map[string][]string // of an entry, by set
	schema                           func() *inputSchema
	// optional are the fields of the input, with all fields below them, that an input may
	// lack, and the inputs that lack them.
	optional []check.Optional
	names    []string // the fields of the input that need the REST API
	subject  check.Subject
}

// egress are the rules about requests of steps.
var egress = &domain{
	folder: "egress", repositoryPackage: "repository",
	organizationSets: []string{setAllow, setDeny, setReport, setDelegate},
	repositorySets:   []string{setAllow, setDeny},
	keys: map[string][]string{
		setAllow:    {"rule", "message", "protocol", "allow_ip_literal", "ech", "no_sni", "limits", "expires"},
		setDeny:     {"rule", "message", "enforce_in_report_mode"},
		setReport:   {"rule", "message"},
		setDelegate: {"rule", "message"},
	},
	schema: sync.OnceValue(func() *inputSchema { return readSchema(schemaJSON) }),
	optional: []check.Optional{
		{Path: "principal.deployment", Without: "a step that deploys nothing"},
		{Path: "principal.branch", Without: "a run without a branch"},
		{Path: "target.scheme", Without: "a CONNECT"},
		{Path: "request", Without: "a CONNECT, whose content cannot be read"},
	},
	names: []string{
		"principal.workspace.slug",
		"principal.repository.full_name",
		"principal.repository.project",
		"principal.deployment.name",
		"principal.deployment.slug",
		"principal.deployment.type",
	},
	subject: check.Requests,
}

// deliveries are the rules about webhook deliveries. The names in their input are those
// of the delivery itself.
var deliveries = &domain{
	folder: "webhook", repositoryPackage: "webhook_repository",
	organizationSets: []string{setAllow, setDeny, setReport, setRoute},
	repositorySets:   []string{setDeny},
	keys: map[string][]string{
		setAllow:  {"rule", "message"},
		setDeny:   {"rule", "message", "enforce_in_report_mode"},
		setReport: {"rule", "message"},
		setRoute:  {"rule", "action", "endpoint"},
	},
	schema: sync.OnceValue(func() *inputSchema { return readSchema(canonical.DeliverySchema) }),
	optional: []check.Optional{
		{Path: "repository", Without: "an event of a project"},
		{Path: "repository.uuid", Without: "a delivery of Data Center"},
		{Path: "repository.id", Without: "a delivery of Cloud"},
		{Path: "pull_request", Without: "an event without a pull request"},
		{Path: "pull_request.source.repository", Without: "a pull request whose fork was deleted"},
		{Path: "pull_request.merge_commit", Without: "a pull request that is not merged"},
		{Path: "actor.uuid", Without: "a delivery of Data Center, or one without an actor"},
		{Path: "actor.id", Without: "a delivery of Cloud"},
		{Path: "actor.kind", Without: "a delivery without an actor"},
	},
	subject: check.Deliveries,
}

// domains are all, in the order in which their rules are checked.
var domains = []*domain{egress, deliveries}

// domainOf returns the domain of a Rego file by its path.
func domainOf(path string) *domain {
	if strings.HasPrefix(path, deliveries.folder+"/") {
		return deliveries
	}
	if !strings.HasPrefix(path, "repositories/") {
		return egress
	}
	if parts := strings.Split(path, "/"); len(parts) == 5 && parts[3] == deliveries.folder {
		return deliveries
	}
	return egress
}

// isSet reports whether the domain has a partial set of this name.
func (d *domain) isSet(name string) bool { return slices.Contains(d.organizationSets, name) }
