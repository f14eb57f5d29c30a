// Package bitbucketapi is a client of Bitbucket's REST API 2.0 for one workspace.
//
// [HTTP] fetches documents within bounds of size and host. [Client] adds the access
// token, a budget of requests and the pauses that the API demands, and reads lists page
// by page. Names, pipelines and pull requests are read here. The adapters share one
// client per workspace, so that they share its budget.
package bitbucketapi
