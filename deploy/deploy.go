// Package deploy holds what an installation starts from.
package deploy

import "embed"

// PolicyRepository is the policy repository to start from, below the folder
// policy-repository.
//
//go:embed all:policy-repository
var PolicyRepository embed.FS

// PolicyWorkspace are the files below policy-workspace that take the place of those of
// the same name in [PolicyRepository] where the policy is for a named workspace. The
// name in them is acme.
//
//go:embed all:policy-workspace
var PolicyWorkspace embed.FS
