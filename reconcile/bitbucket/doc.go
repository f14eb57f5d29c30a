// Package bitbucket reads the deployments of a workspace from Bitbucket's REST API, for
// reconciliation.
package bitbucket
