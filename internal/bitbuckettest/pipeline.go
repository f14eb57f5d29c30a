package bitbuckettest

// Run starts a pipeline for a branch. With an empty branch it is a run whose
// token has no branchName.
func (r *Repository) Run(branch string) *Pipeline { return r.run(branch, "") }

// RunTag starts a pipeline for a tag. Its tokens have no branchName.
func (r *Repository) RunTag(tag string) *Pipeline { return r.run("", tag) }

func (r *Repository) run(branch, tag string) *Pipeline {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	s := r.server
	r.builds++
	p := &Pipeline{
		UUID: s.newUUID(), Repository: r, BuildNumber: r.builds, Branch: branch, Tag: tag,
		Commit: s.newCommit(), server: s, created: s.now(),
	}
	r.pipelines = append(r.pipelines, p)
	return p
}

// newCommit returns a random commit hash. The caller holds mu.
func (s *Server) newCommit() string {
	var hex []byte
	for len(hex) < 40 {
		for _, c := range []byte(s.newUUID()) {
			if c != '-' {
				hex = append(hex, c)
			}
		}
	}
	return string(hex[:40])
}

// Complete ends the pipeline with a result such as SUCCESSFUL, FAILED or
// STOPPED.
func (p *Pipeline) Complete(result string) {
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.end = &end{p.server.now(), result}
}

// Step starts a step that deploys to an environment of the pipeline's
// repository, or, with nil, deploys nothing.
func (p *Pipeline) Step(e *Environment) *Step {
	t := p.ManualStep(e)
	t.Start()
	return t
}

// ManualStep adds a step that waits until a user starts it.
func (p *Pipeline) ManualStep(e *Environment) *Step {
	if e != nil && e.Repository != p.Repository {
		panic("bitbuckettest: step: the environment belongs to another repository")
	}
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	t := &Step{UUID: p.server.newUUID(), Pipeline: p, Environment: e, server: p.server, created: p.server.now()}
	p.steps = append(p.steps, t)
	return t
}

// Start begins a step that waits.
func (t *Step) Start() {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	t.started = t.server.now()
}

// Complete ends the step with a result such as SUCCESSFUL, FAILED or STOPPED.
func (t *Step) Complete(result string) {
	t.server.mu.Lock()
	defer t.server.mu.Unlock()
	t.end = &end{t.server.now(), result}
}
