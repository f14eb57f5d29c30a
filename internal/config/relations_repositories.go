package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/webhook"
)

// cloudHost is the host of the repositories of Bitbucket Cloud.
const cloudHost = "bitbucket.org"

// webhookRepositories checks the listed repositories of a receiver by what else the
// configuration names: a repository of a misspelled workspace is never delivered.
func (d *decoder) webhookRepositories(path string, r WebhookReceiver, cfg *Config) {
	if d.failed[path+".repositories"] {
		return
	}
	known := workspacesOf(cfg)
	for i, name := range r.Repositories {
		own := fmt.Sprintf("%s.repositories[%d]", path, i)
		workspace, _, named := strings.Cut(strings.ToLower(name), "/")
		switch {
		case r.Kind == webhook.DataCenter && !named:
			d.fail(own, "write PROJECT/slug", "Data Center has no UUIDs")
		case r.Kind == webhook.Cloud && named && !slugForm.MatchString(workspace):
			d.fail(own, "write the workspace's slug, as in the repository's URL", "no workspace of Bitbucket Cloud has the slug %s", quote(workspace))
		case r.Kind == webhook.Cloud && named && !slices.Contains(known, workspace):
			hint := didYouMean(workspace, known)
			if hint == "" {
				hint = "the configured workspaces are " + strings.Join(known, ", ") + ": correct it, unless deliveries of another workspace are meant"
			}
			d.warn(own, hint, "the workspace %s is not configured", quote(workspace))
		}
		if at := slices.IndexFunc(r.Repositories[:i], func(earlier string) bool { return strings.EqualFold(earlier, name) }); at >= 0 {
			d.warn(own, "remove one of the two", "it is the same repository as repositories[%d]", at)
		}
	}
}

// workspacesOf are the workspaces that the configuration names: those of identity, and the
// policy repository's.
func workspacesOf(cfg *Config) []string {
	var list []string
	for _, b := range cfg.Identity.Bitbucket {
		list = append(list, b.Workspace)
	}
	if workspace, _, ok := cfg.Policy.BitbucketRepository(); ok && !slices.Contains(list, workspace) {
		list = append(list, workspace)
	}
	return list
}

// policyRepository is the full name of the policy repository as deliveries of a product have
// it; empty if it is not known, as that of a mirror.
func policyRepository(p *Policy, kind webhook.Kind) string {
	if kind == webhook.Cloud {
		if workspace, name, known := p.BitbucketRepository(); known {
			return workspace + "/" + name
		}
		return ""
	}
	if p.Git == nil || p.Git.URL == nil {
		return ""
	}
	// Data Center's addresses are ssh://HOST/KEY/SLUG and https://HOST[/CONTEXT]/scm/KEY/SLUG.
	segments := strings.Split(strings.TrimSuffix(strings.Trim(p.Git.URL.Path, "/"), ".git"), "/")
	n := len(segments)
	if p.Git.URL.Scheme == "ssh" && n == 2 || n >= 3 && segments[n-3] == "scm" {
		return segments[n-2] + "/" + segments[n-1]
	}
	return ""
}

// webhookMatched warns of addresses of Bitbucket Cloud that are misspelled: of a host like
// bitbucket.org, and of workspaces that are not configured.
func (d *decoder) webhookMatched(path string, m *WebhookMatch, workspaces []string) {
	check := func(own, address string) {
		host, rest, _ := strings.Cut(address, "/")
		workspace, _, _ := strings.Cut(rest, "/")
		switch {
		case host != cloudHost && nearest.Distance(host, cloudHost) <= 2:
			d.warn(own, "did you mean "+quote(cloudHost)+"?", "the host %s is not Bitbucket Cloud", quote(host))
		case host == cloudHost && !strings.Contains(workspace, "*") && !slices.Contains(workspaces, workspace):
			hint := didYouMean(workspace, workspaces)
			if hint == "" {
				hint = "correct it, unless deliveries of another workspace are meant"
			}
			d.warn(own, hint, "the workspace %s is not configured", quote(workspace))
		}
	}
	if !d.failed[path+".repositories"] {
		for i, address := range m.Repositories {
			check(fmt.Sprintf("%s.repositories[%d]", path, i), address)
		}
	}
	if !d.failed[path+".pull_requests"] {
		for i, pattern := range m.PullRequests {
			_, address, _ := strings.Cut(strings.ToLower(pattern), "://")
			check(fmt.Sprintf("%s.pull_requests[%d]", path, i), address)
		}
	}
}

// webhookReaches warns of a resource that a receiver refreshes, but that no delivery of the
// receiver matches: of another product, or of repositories that the receiver does not list.
func (d *decoder) webhookReaches(own string, receiver *WebhookReceiver, r *WebhookResource) {
	if receiver.Kind == 0 || len(r.Match.Repositories)+len(r.Match.PullRequests) == 0 {
		return
	}
	ofKind := func(address string) bool {
		address = strings.TrimPrefix(strings.TrimPrefix(address, "https://"), "http://")
		host, _, _ := strings.Cut(address, "/")
		return strings.Contains(host, "*") || (host == cloudHost) == (receiver.Kind == webhook.Cloud)
	}
	if !slices.ContainsFunc(slices.Concat(r.Match.Repositories, r.Match.PullRequests), ofKind) {
		d.warn(own, "correct the receiver's kind, or the resource's match", "the resource %s matches no repository of kind %s", quote(r.Name), receiver.Kind)
		return
	}
	if len(r.Match.PullRequests) > 0 || len(receiver.Repositories) == 0 {
		return
	}
	if !slices.ContainsFunc(receiver.Repositories, func(listed string) bool {
		return !strings.Contains(listed, "/") || slices.ContainsFunc(r.Match.Repositories, func(address string) bool {
			return strings.HasSuffix(address, "/"+strings.ToLower(listed))
		})
	}) {
		d.warn(own, "add the repository to repositories, or correct the resource's match", "the receiver lists no repository that the resource %s matches", quote(r.Name))
	}
}
