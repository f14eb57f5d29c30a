package bitbucketapi

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sallyport/sallyport/identity"
	"github.com/sallyport/sallyport/internal/uuid"
)

// minHash is the number of digits that identify a hash. Bitbucket abbreviates to 12.
const minHash = 7

func parseID(raw []byte) (int64, error) {
	var d struct{ ID int64 }
	if err := json.Unmarshal(raw, &d); err != nil {
		return 0, err
	}
	if d.ID <= 0 {
		return 0, errors.New("a pull request has no id")
	}
	return d.ID, nil
}

type accountJSON struct {
	UUID string `json:"uuid"`
	Name string `json:"display_name"`
}

func (a accountJSON) account() identity.Account {
	id, _ := uuid.Parse(a.UUID)
	if !isName(a.Name) {
		a.Name = ""
	}
	return identity.Account{UUID: id, Name: a.Name}
}

// parsePullRequest reads a pull request. Texts that people chose are only logged. A
// review is an approval if the boolean is true and the state, which older responses do
// not have, does not contradict it.
func parsePullRequest(body []byte, id int64) (identity.PullRequest, error) {
	var d struct {
		ID           int64
		Title        string
		State        string
		Author       accountJSON
		ClosedBy     accountJSON           `json:"closed_by"`
		MergeCommit  struct{ Hash string } `json:"merge_commit"`
		Source       struct{ Commit struct{ Hash string } }
		Destination  struct{ Branch struct{ Name string } }
		Participants []struct {
			User     accountJSON
			Approved bool
			State    *string
			At       string `json:"participated_on"`
		}
	}
	if err := json.Unmarshal(body, &d); err != nil {
		return identity.PullRequest{}, fmt.Errorf("read a pull request: %w", err)
	}
	if d.ID != id {
		return identity.PullRequest{}, fmt.Errorf("read a pull request: the API returned another one, %d", d.ID)
	}
	p := identity.PullRequest{
		ID: d.ID, Title: d.Title, Merged: d.State == "MERGED", Author: d.Author.account(), MergedBy: d.ClosedBy.account(),
		Destination: d.Destination.Branch.Name, MergeCommit: hashOf(d.MergeCommit.Hash), Source: hashOf(d.Source.Commit.Hash),
	}
	for _, one := range d.Participants {
		r := identity.Review{Account: one.User.account(), Approved: one.Approved && (one.State == nil || *one.State == "approved"), ChangesRequested: one.State != nil && *one.State == "changes_requested"}
		if at, err := time.Parse(time.RFC3339Nano, one.At); err == nil {
			r.At = at.UTC()
		}
		if r.Approved || r.ChangesRequested {
			p.Reviews = append(p.Reviews, r)
		}
	}
	return p, nil
}

// hashOf returns a commit's hash or its prefix; empty if s is neither.
func hashOf(s string) string {
	if len(s) < minHash || len(s) > 64 || strings.Trim(s, "0123456789abcdef") != "" {
		return ""
	}
	return s
}
