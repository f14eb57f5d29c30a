package identity

import (
	"errors"
	"time"
)

// Account is a person or an app of Bitbucket. Its UUID identifies it: names are
// chosen freely and may change.
type Account struct {
	UUID string // bare and lower-case; empty: Bitbucket did not report it
	Name string // the display name; empty where it is not clean text
}

// Review is one account's review of a pull request.
type Review struct {
	Account          Account
	Approved         bool
	ChangesRequested bool
	At               time.Time // of its latest participation; zero: Bitbucket did not report it
}

// PullRequest is a pull request as Bitbucket has it now.
type PullRequest struct {
	ID          int64
	Title       string // escaping is the reader's business: the author chooses it freely
	Merged      bool
	Author      Account
	MergedBy    Account
	Destination string // the branch
	// MergeCommit and Source are how the hashes of the merge commit and of the source
	// branch's head begin: at least 7 hexadecimal digits, or empty.
	MergeCommit, Source string
	Reviews             []Review
}

// PullRequestCommit is who wrote a commit of a pull request.
type PullRequestCommit struct {
	Hash   string  // 40 hexadecimal digits, or how it begins
	Author Account // UUID is empty where the commit's address belongs to no account
}

// ErrIndexing is the error where Bitbucket has not finished linking commits with pull
// requests: ask again later.
var ErrIndexing = errors.New("the commits of the repository are not linked with pull requests yet")
