package bitbuckettest

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// AddAccount makes an account.
func (s *Server) AddAccount(name string) Account {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Account{UUID: s.newUUID(), Name: name}
}

// SetCommitLinks sets how the repository links commits with pull requests.
func (r *Repository) SetCommitLinks(l CommitLinks) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.links = l
}

// AddPull opens a pull request.
func (r *Repository) AddPull(p Pull) *Pull {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	p.ID, p.server, p.state, p.updated = len(r.pulls)+1, r.server, "OPEN", r.server.now()
	r.pulls = append(r.pulls, &p)
	return &p
}

// Approve, RequestChanges and Withdraw set the review of an account.
func (p *Pull) Approve(by Account)        { p.review(by, "approved") }
func (p *Pull) RequestChanges(by Account) { p.review(by, "changes_requested") }
func (p *Pull) Withdraw(by Account)       { p.review(by, "") }

func (p *Pull) review(by Account, state string) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.reviews = slices.DeleteFunc(p.reviews, func(r review) bool { return r.account.UUID == by.UUID })
	p.reviews = append(p.reviews, review{by, state, p.server.now()})
}

// Merge merges it as a commit.
func (p *Pull) Merge(by Account, commit string) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.state, p.merge, p.closedBy, p.updated = "MERGED", commit, &by, p.server.now()
}

func viewAccount(a *Account) any {
	if a == nil {
		return nil
	}
	return map[string]any{"type": "user", "uuid": Braced(a.UUID), "display_name": a.Name, "nickname": a.Name}
}

func abbreviated(hash string) any {
	if hash == "" {
		return nil
	}
	return map[string]any{"type": "commit", "hash": hash[:12]}
}

func (s *Server) viewPull(p *Pull) map[string]any {
	participants := []any{}
	for _, r := range p.reviews {
		var state any
		if r.state != "" {
			state = r.state
		}
		participants = append(participants, map[string]any{"type": "participant", "user": viewAccount(&r.account), "role": "REVIEWER",
			"approved": r.state == "approved", "state": state, "participated_on": timestamp(r.at)})
	}
	v := map[string]any{
		"type": "pullrequest", "id": p.ID, "title": p.Title, "state": p.state, "author": viewAccount(p.Author), "closed_by": viewAccount(p.closedBy),
		"merge_commit": abbreviated(p.merge), "updated_on": timestamp(p.updated),
		"source":       map[string]any{"branch": map[string]any{"name": "topic"}, "commit": abbreviated(p.Source)},
		"destination":  map[string]any{"branch": map[string]any{"name": p.Destination}},
		"participants": participants,
	}
	return v
}

// briefPull is a pull request in a list, which has no participants.
func (s *Server) briefPull(p *Pull) map[string]any {
	v := s.viewPull(p)
	delete(v, "participants")
	return v
}

func (s *Server) listCommitPullRequests(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	switch {
	case r == nil:
		return none
	case r.links.NoApp:
		return failure(http.StatusNotFound, "The app Pull Request Commit Links is not installed")
	case r.links.Indexing:
		return answer{status: http.StatusAccepted}
	}
	var of []*Pull
	for _, p := range r.pulls {
		if p.merge == c.args[2] || slices.ContainsFunc(p.Commits, func(o PullCommit) bool { return o.Hash == c.args[2] }) {
			of = append(of, p)
		}
	}
	return list(s, c, of, s.briefPull)
}

// listPullRequests emulates the filter state and the sort -updated_on.
func (s *Server) listPullRequests(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	if sort := c.query.Get("sort"); c.query.Has("q") || sort != "" && sort != "-updated_on" {
		return failure(http.StatusBadRequest, "bitbuckettest does not emulate these parameters")
	}
	state := c.query.Get("state")
	if state == "" {
		state = "OPEN"
	}
	var all []*Pull
	for _, p := range r.pulls {
		if p.state == state {
			all = append(all, p)
		}
	}
	slices.SortStableFunc(all, func(a, b *Pull) int { return b.updated.Compare(a.updated) })
	return onePage(s, c, all, s.briefPull)
}

func (s *Server) findPull(c *call) (*Pull, answer) {
	r, none := s.findRepository(c)
	if r == nil {
		return nil, none
	}
	id, err := strconv.Atoi(c.args[2])
	if err != nil || id < 1 || id > len(r.pulls) {
		return nil, failure(http.StatusNotFound, "Pull request %s not found", c.args[2])
	}
	return r.pulls[id-1], answer{}
}

func (s *Server) getPullRequest(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, none := s.findPull(c)
	if p == nil {
		return none
	}
	return answer{status: http.StatusOK, body: s.viewPull(p)}
}

func (s *Server) listPullRequestCommits(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, none := s.findPull(c)
	if p == nil {
		return none
	}
	return list(s, c, p.Commits, func(o PullCommit) map[string]any {
		author := map[string]any{"type": "author", "raw": strings.ToValidUTF8("Robin <robin@acme.example>", "")}
		if o.Author != nil {
			author["user"] = viewAccount(o.Author)
		}
		return map[string]any{"type": "commit", "hash": o.Hash, "author": author}
	})
}
