package bitbuckettest

import "strings"

// Endpoint is one kind of request, or several at once (they are bits).
type Endpoint uint32

// The endpoints. Unknown is every request that fits none of the others.
const (
	Discovery Endpoint = 1 << iota
	Keys
	WorkspaceGet
	RepositoryList
	RepositoryGet
	EnvironmentList
	EnvironmentGet
	PipelineList
	PipelineGet
	StepList
	StepGet
	DeploymentList
	DeploymentGet
	CommitPullRequests
	PullRequestList
	PullRequestGet
	PullRequestCommits
	Hooks
	Reports // Code Insights
	Git     // a request to a repository's Git server; faults do not hit it
	Unknown

	OIDC = Discovery | Keys
	REST = WorkspaceGet | RepositoryList | RepositoryGet | EnvironmentList | EnvironmentGet |
		PipelineList | PipelineGet | StepList | StepGet | DeploymentList | DeploymentGet |
		PullRequest | Hooks | Reports
	PullRequest = CommitPullRequests | PullRequestList | PullRequestGet | PullRequestCommits
	Any         = OIDC | REST | Git | Unknown
)

// String names the endpoint; several are joined by "+".
func (e Endpoint) String() string {
	names := []string{"discovery", "keys", "workspace", "repositories", "repository", "environments",
		"environment", "pipelines", "pipeline", "steps", "step", "deployments", "deployment",
		"commit pull requests", "pull requests", "pull request", "pull request commits", "hooks", "reports", "git", "unknown"}
	var parts []string
	for i, name := range names {
		if e&(1<<i) != 0 {
			parts = append(parts, name)
		}
	}
	return strings.Join(parts, "+")
}
