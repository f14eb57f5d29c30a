package configcmd

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/cmd/sallyport/internal/components"
	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/bitbucketapi"
	"github.com/sallyport/sallyport/internal/config"
	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/internal/uuid"
	"github.com/sallyport/sallyport/webhook"
)

// checkReceiverRepositories compares the repositories of Cloud's receivers with those of
// Bitbucket: a receiver refuses the deliveries of a repository whose name is misspelled.
// transport may be nil.
func checkReceiverRepositories(ctx context.Context, r *checkReport, cfg *config.Config, transport http.RoundTripper) {
	if cfg.Webhooks == nil {
		return
	}
	listed := func(receiver config.WebhookReceiver) bool {
		return receiver.Kind == webhook.Cloud && len(receiver.Repositories) > 0
	}
	if !slices.ContainsFunc(cfg.Webhooks.Receivers, listed) {
		return
	}
	known := map[string][]identity.KnownName{} // of the workspaces that have an API
	complete := true
	for _, w := range components.Identity(cfg).Workspaces {
		if w.API == nil {
			complete = false
			continue
		}
		list, err := bitbucketapi.ListRepositories(ctx, w.Slug, w.UUID, w.API, transport)
		if err != nil {
			r.warn("webhooks", fmt.Sprintf("the repositories of receivers are not compared with Bitbucket's: %v", err))
			return
		}
		known[w.Slug] = list
	}
	for i, receiver := range cfg.Webhooks.Receivers {
		if !listed(receiver) {
			continue
		}
		for j, name := range receiver.Repositories {
			if hint := unknownRepository(name, known, complete); hint != "" {
				r.warn("webhooks", fmt.Sprintf("webhooks.receivers[%d].repositories[%d]: Bitbucket has no repository %s: %s", i, j, name, hint))
			}
		}
	}
}

// unknownRepository returns the remedy for a repository that the workspaces do not have; "" if
// it may exist. complete is set if every workspace is known.
func unknownRepository(name string, known map[string][]identity.KnownName, complete bool) string {
	if _, ok := uuid.Parse(name); ok {
		for _, list := range known {
			if slices.ContainsFunc(list, func(k identity.KnownName) bool { return k.RepositoryUUID == name }) {
				return ""
			}
		}
		if !complete {
			return ""
		}
		return "correct the UUID, or let the access token read the repository"
	}
	name = strings.ToLower(name)
	workspace, _, _ := strings.Cut(name, "/")
	list, ok := known[workspace]
	if !ok || slices.ContainsFunc(list, func(k identity.KnownName) bool { return strings.EqualFold(k.FullName, name) }) {
		return "" // a workspace that is not configured is a warning of the configuration
	}
	names := make([]string, len(list))
	for i, k := range list {
		names[i] = k.FullName
	}
	if near := nearest.Of(name, names); near != "" {
		return "did you mean " + near + "?"
	}
	return "correct the name, or let the access token read the repository"
}
