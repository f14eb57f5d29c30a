// Package deploy holds what an installation starts from.
package deploy

import "embed"

// PolicyRepository is the policy repository to start from, below the folder
// policy-repository.
//
//go:embed all:policy-repository
var PolicyRepository embed.FS
