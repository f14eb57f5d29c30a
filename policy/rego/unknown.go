package rego

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
	"github.com/sallyport/sallyport/policy"
	"github.com/sallyport/sallyport/policy/rego/check"
)

// NamesUnknownRepository reports whether a warning is about a repository that is not in
// [Options.Repositories].
func NamesUnknownRepository(e Error) bool {
	return strings.HasPrefix(e.Message, check.UnknownRepository)
}

// NamesUnknownWebhook reports whether a warning is about a receiver, an endpoint or a
// resource that is not in [Options.Webhooks].
func NamesUnknownWebhook(e Error) bool {
	return slices.ContainsFunc([]string{check.UnknownReceiver, check.UnknownEndpoint, check.UnknownResource}, func(begin string) bool { return strings.HasPrefix(e.Message, begin) })
}

// UnknownRepositories returns where a set names a repository that is not in names, the
// full names of all repositories: in the organization's rules and documents, and as a
// folder. A rule with such a name has no effect. The repositories' own files are not read,
// so that the time does not grow with their number.
func UnknownRepositories(ctx context.Context, set *Set, names []string) (Errors, error) {
	var organization []policy.File
	for _, f := range set.snapshot.Files {
		if !strings.HasPrefix(f.Path, "repositories/") {
			organization = append(organization, f)
		}
	}
	snapshot, err := policy.NewSnapshot(organization, "")
	if err != nil {
		return nil, fmt.Errorf("find unknown repositories: %w", err)
	}
	options := set.loader.options
	options.Recorded, options.Defer, options.Repositories, options.Previous, options.Fallback, options.Kept = true, false, append([]string{}, names...), nil, nil, nil
	_, warnings, err := Check(ctx, snapshot, options)
	if err != nil {
		return nil, fmt.Errorf("find unknown repositories: %w", err)
	}
	warnings = slices.DeleteFunc(warnings, func(e Error) bool { return !NamesUnknownRepository(e) })
	sorted := slices.Sorted(slices.Values(names))
	for _, name := range set.Repositories() {
		if _, known := slices.BinarySearch(sorted, name); known {
			continue
		}
		hint := "remove the folder, or correct its name"
		if near := nearest.Of(name, sorted); near != "" {
			hint = "did you mean " + near + "?"
		}
		warnings = append(warnings, Error{File: "repositories/" + name, Message: check.UnknownRepository + fmt.Sprintf("%q", name), Hint: hint})
	}
	return warnings, nil
}
