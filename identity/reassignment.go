package identity

import "time"

// Reassignment is a name that belongs to another UUID now: the previous object was deleted
// and created again, or renamed so that another object got its name.
type Reassignment struct {
	Kind           string // workspace, or one of [NameOfRepository] and [NameOfDeployment]
	WorkspaceUUID  string
	RepositoryUUID string // of a deployment
	Name           string // slug of a workspace, full name of a repository, name of a deployment
	FromUUID       string
	ToUUID         string
	At             time.Time // when Bitbucket first reported the present owner
}
