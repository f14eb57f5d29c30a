package bitbuckettest

import (
	"fmt"
	"net/url"
	"slices"
)

// AddWorkspace makes a workspace with OpenID Connect enabled and one key.
func (s *Server) AddWorkspace(slug string) *Workspace {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuseTaken(slug)
	w := &Workspace{
		UUID: s.newUUID(), server: s, created: s.now(), slug: slug,
		key: s.newKey("", "RS256"), projects: map[string]string{}, creator: s.newUUID(),
	}
	w.keys = []*Key{w.key}
	s.workspaces = append(s.workspaces, w)
	return w
}

func (s *Server) refuseTaken(slug string) {
	if slug == "" || slug != slugify(slug) || s.workspace(slug) != nil {
		panic(fmt.Sprintf("bitbuckettest: the workspace slug %q is not a slug, or taken", slug))
	}
}

// Slug returns the slug of the workspace, which is its name as well.
func (w *Workspace) Slug() string {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	return w.slug
}

// Rename gives the workspace another slug. The issuer changes with it.
func (w *Workspace) Rename(slug string) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.server.refuseTaken(slug)
	w.slug = slug
}

// SetOIDC sets whether the workspace has OpenID Connect enabled; without it
// discovery and keys are 404.
func (w *Workspace) SetOIDC(enabled bool) {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.disabled = !enabled
}

// Issuer returns the iss claim of the workspace's tokens.
func (w *Workspace) Issuer() string {
	return w.server.APIURL() + "/workspaces/" + url.PathEscape(w.Slug()) + "/pipelines-config/identity/oidc"
}

// DefaultAudience returns the aud claim of a step that names none.
func (w *Workspace) DefaultAudience() string { return "ari:cloud:bitbucket::workspace/" + w.UUID }

// AddRepository makes a repository; its slug is made from its name. A project
// that the workspace does not have yet is made too.
func (w *Workspace) AddRepository(name, project string) *Repository {
	w.server.mu.Lock()
	defer w.server.mu.Unlock()
	w.refuseTaken(name, nil)
	w.ensureProject(project)
	r := &Repository{
		UUID: w.server.newUUID(), server: w.server, created: w.server.now(),
		workspace: w, name: name, project: project,
	}
	w.server.numbers++
	r.number = w.server.numbers
	w.repositories = append(w.repositories, r)
	return r
}

// refuseTaken panics when another repository than r has the slug of name.
func (w *Workspace) refuseTaken(name string, r *Repository) {
	slug := slugify(name)
	if slug == "" || slices.ContainsFunc(w.repositories, func(o *Repository) bool { return o != r && slugify(o.name) == slug }) {
		panic(fmt.Sprintf("bitbuckettest: the repository name %q is empty, or taken in %s", name, w.slug))
	}
}

func (w *Workspace) ensureProject(key string) {
	if w.projects[key] == "" {
		w.projects[key] = w.server.newUUID()
	}
}

// Workspace returns the workspace that owns the repository now.
func (r *Repository) Workspace() *Workspace {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return r.workspace
}

// Slug returns the slug.
func (r *Repository) Slug() string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return slugify(r.name)
}

// FullName returns workspace/slug.
func (r *Repository) FullName() string {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	return r.fullName()
}

// Rename gives the repository another name and slug; the UUID stays.
func (r *Repository) Rename(name string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.workspace.refuseTaken(name, r)
	before := r.viewDC()
	r.name = name
	r.changed("repo:updated", before)
}

// SetProject moves the repository to another project of its workspace.
func (r *Repository) SetProject(key string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.workspace.ensureProject(key)
	before := r.viewDC()
	r.project = key
	r.changed("repo:updated", before)
}

// Transfer moves the repository to a project of another workspace; the UUID
// stays.
func (r *Repository) Transfer(to *Workspace, project string) {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	to.refuseTaken(r.name, r)
	to.ensureProject(project)
	before := r.viewDC()
	r.remove()
	r.workspace, r.project = to, project
	to.repositories = append(to.repositories, r)
	r.changed("repo:transfer", before)
}

// Delete takes the repository away from REST; its name is free for another,
// which gets another UUID. Tokens of its steps can still be made.
func (r *Repository) Delete() {
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.changed("repo:deleted", nil)
	r.remove()
}

func (r *Repository) remove() {
	w := r.workspace
	w.repositories = slices.DeleteFunc(w.repositories, func(o *Repository) bool { return o == r })
}

// AddEnvironment makes a deployment environment.
func (r *Repository) AddEnvironment(name string, kind EnvironmentType) *Environment {
	if !slices.Contains(environmentTypes, kind) {
		panic(fmt.Sprintf("bitbuckettest: add an environment: unknown type %q", kind))
	}
	r.server.mu.Lock()
	defer r.server.mu.Unlock()
	r.refuseTaken(name, nil)
	e := &Environment{UUID: r.server.newUUID(), Repository: r, Type: kind, server: r.server, name: name}
	r.environments = append(r.environments, e)
	return e
}

func (r *Repository) refuseTaken(name string, e *Environment) {
	slug := slugify(name)
	if slug == "" || slices.ContainsFunc(r.environments, func(o *Environment) bool { return o != e && slugify(o.name) == slug }) {
		panic(fmt.Sprintf("bitbuckettest: the environment name %q is empty, or taken in %s", name, r.fullName()))
	}
}

// Name returns the name.
func (e *Environment) Name() string {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	return e.name
}

// Slug returns the URL-friendly name, as in BITBUCKET_DEPLOYMENT_ENVIRONMENT.
func (e *Environment) Slug() string { return slugify(e.Name()) }

// Rename gives the environment another name and slug; the UUID stays.
func (e *Environment) Rename(name string) {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	e.Repository.refuseTaken(name, e)
	e.name = name
}

// Delete takes the environment away from REST; its name is free for another,
// which gets another UUID.
func (e *Environment) Delete() {
	e.server.mu.Lock()
	defer e.server.mu.Unlock()
	r := e.Repository
	r.environments = slices.DeleteFunc(r.environments, func(o *Environment) bool { return o == e })
}
