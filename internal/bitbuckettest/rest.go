package bitbuckettest

import (
	"net/http"
	"slices"
	"strings"
)

// identifies reports whether a path's part names something with this UUID and
// slug: the slug, or the UUID in braces.
func identifies(part, uuid, slug string) bool {
	return slug != "" && part == slug || strings.EqualFold(part, Braced(uuid))
}

// findWorkspace returns the workspace that a path's part names, or nil. The
// caller holds mu, as for all find functions.
func (s *Server) findWorkspace(part string) *Workspace {
	for _, w := range s.workspaces {
		if identifies(part, w.UUID, w.slug) {
			return w
		}
	}
	return nil
}

// findRepository finds by the first two arguments. A repository named by its
// UUID may have empty braces for its workspace.
func (s *Server) findRepository(c *call) (*Repository, answer) {
	none := failure(http.StatusNotFound, "Repository %s/%s not found", c.args[0], c.args[1])
	for _, w := range s.workspaces {
		anywhere := c.args[0] == "{}"
		if !anywhere && !identifies(c.args[0], w.UUID, w.slug) || !c.sees(w) {
			continue
		}
		for _, r := range w.repositories {
			slug := slugify(r.name)
			if anywhere {
				slug = ""
			}
			if identifies(c.args[1], r.UUID, slug) {
				return r, answer{}
			}
		}
	}
	return nil, none
}

func (s *Server) findPipeline(c *call) (*Pipeline, answer) {
	r, none := s.findRepository(c)
	if r == nil {
		return nil, none
	}
	for _, p := range r.pipelines {
		if identifies(c.args[2], p.UUID, "") {
			return p, answer{}
		}
	}
	return nil, failure(http.StatusNotFound, "Pipeline %s not found", c.args[2])
}

func (s *Server) getWorkspace(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.findWorkspace(c.args[0])
	switch {
	case w == nil:
		return failure(http.StatusNotFound, "No workspace with identifier '%s'.", c.args[0])
	case !c.sees(w):
		return failure(http.StatusForbidden, "You do not have access to this workspace.")
	}
	return answer{status: http.StatusOK, body: s.viewWorkspace(w)}
}

func (s *Server) listRepositories(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.findWorkspace(c.args[0])
	if w == nil || !c.sees(w) {
		return failure(http.StatusNotFound, "No workspace with identifier '%s'.", c.args[0])
	}
	return list(s, c, w.repositories, s.viewRepository)
}

func (s *Server) getRepository(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	return answer{status: http.StatusOK, body: s.viewRepository(r)}
}

func (s *Server) listEnvironments(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	return list(s, c, r.environments, s.viewEnvironment)
}

func (s *Server) getEnvironment(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	i := slices.IndexFunc(r.environments, func(e *Environment) bool { return identifies(c.args[2], e.UUID, "") })
	if i < 0 {
		return failure(http.StatusNotFound, "Environment %s not found", c.args[2])
	}
	return answer{status: http.StatusOK, body: s.viewEnvironment(r.environments[i])}
}

func (s *Server) listPipelines(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, none := s.findRepository(c)
	if r == nil {
		return none
	}
	return list(s, c, r.pipelines, s.viewPipeline)
}

func (s *Server) getPipeline(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, none := s.findPipeline(c)
	if p == nil {
		return none
	}
	return answer{status: http.StatusOK, body: s.viewPipeline(p)}
}

func (s *Server) listSteps(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, none := s.findPipeline(c)
	if p == nil {
		return none
	}
	return list(s, c, p.steps, s.viewStep)
}

func (s *Server) getStep(c *call) answer {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, none := s.findPipeline(c)
	if p == nil {
		return none
	}
	i := slices.IndexFunc(p.steps, func(t *Step) bool { return identifies(c.args[3], t.UUID, "") })
	if i < 0 {
		return failure(http.StatusNotFound, "Step %s not found", c.args[3])
	}
	return answer{status: http.StatusOK, body: s.viewStep(p.steps[i])}
}
