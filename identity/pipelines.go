package identity

import "time"

// PipelineID identifies a pipeline. UUIDs are bare and lower-case.
type PipelineID struct {
	WorkspaceUUID  string
	RepositoryUUID string
	PipelineUUID   string
}

// Pipeline is what Bitbucket reports about a pipeline and its token does not contain.
// UUIDs are bare and lower-case.
type Pipeline struct {
	PipelineUUID   string
	RepositoryUUID string
	BuildNumber    int64     // zero: Bitbucket does not know the pipeline
	Creator        string    // the name of the account that started it; empty: not reported, or not clean text
	CreatorUUID    string    // empty: not reported
	FetchedAt      time.Time // when Bitbucket reported it
}
