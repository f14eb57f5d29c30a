package identity

import "time"

// What a [KnownName] names.
const (
	NameOfRepository = "repository"
	NameOfDeployment = "deployment"
)

// KnownName is what one repository or deployment environment was called at one
// moment. UUIDs are bare and lower-case.
type KnownName struct {
	Kind           string // NameOfRepository or NameOfDeployment
	WorkspaceUUID  string
	RepositoryUUID string
	DeploymentUUID string // empty for a repository

	WorkspaceSlug string // of a repository
	FullName      string // of a repository: workspace slug, a slash, repository slug
	Project       string // of a repository: the project's key

	Name string // of a deployment: as people wrote it
	Slug string // of a deployment: as in URLs
	Type string // of a deployment: test, staging or production, or empty

	FetchedAt time.Time // when Bitbucket last reported it
}
