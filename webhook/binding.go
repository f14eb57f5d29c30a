package webhook

import (
	"errors"
	"strconv"
	"strings"
)

// A receiver admits a delivery by the UUID or the full name of its repository. Policy and
// actions later read other fields that name a repository too: addresses, pages, and the two
// sides of a pull request. The functions of this file bind them to the admitted repository.
// Otherwise a sender with the secret of a receiver could be admitted for one repository and
// refresh the resources of another.

// cloudSite is the address of Bitbucket Cloud's pages and clones.
const cloudSite = "https://bitbucket.org/"

// cloudAddress returns the address of a repository of Cloud. It is made from the name and not
// read from the links of a delivery.
func cloudAddress(fullName string) []string {
	if fullName == "" {
		return nil
	}
	return []string{cloudSite + fullName}
}

// readAddresses lists the addresses in the links of a repository of Data Center. The host is
// the sender's; a path that belongs to another repository is an error. An address that
// [NormalizeURL] refuses is left out.
func (r *Repository) readAddresses(links node) {
	read := func(list string, belongs func(normal string) bool) {
		for _, link := range links.objects(list) {
			href := link.text("href")
			normal, err := NormalizeURL(href)
			if err != nil {
				continue
			}
			if !belongs(normal) {
				link.reject("href", "an address of the repository that the body names")
			}
			r.URLs = append(r.URLs, href)
		}
	}
	read("clone", r.hasClone)
	read("self", r.hasPage)
}

// hasClone reports whether a normalized address ends in the name of the repository.
func (r *Repository) hasClone(normal string) bool {
	return strings.HasSuffix(normal, "/"+strings.ToLower(r.FullName))
}

// hasPage reports whether a normalized address is that of the repository's page.
func (r *Repository) hasPage(normal string) bool {
	return r.hasPath(strings.TrimSuffix(normal, "/browse"), "")
}

// hasPath reports whether a normalized address ends in the path of the repository's pages, and
// rest. The page of a personal repository is below its user, whose slug need not be the key.
func (r *Repository) hasPath(normal, rest string) bool {
	project, slug, _ := strings.Cut(strings.ToLower(r.FullName), "/")
	page, ok := strings.CutSuffix(normal, "/repos/"+slug+rest)
	if !ok || project == "" {
		return false
	}
	return strings.HasSuffix(page, "/projects/"+project) || project[0] == '~' && strings.HasSuffix(page[:strings.LastIndexByte(page, '/')+1], "/users/")
}

// bindPage checks the address of a pull request's page in Data Center. One that cannot be
// read is left out; one of another pull request is an error.
func (p *PullRequest) bindPage(r *Repository, n node) {
	normal, err := NormalizeURL(p.URL)
	switch {
	case err != nil || r == nil:
		p.URL = ""
	case !r.hasPath(strings.TrimSuffix(normal, "/overview"), "/pull-requests/"+strconv.FormatInt(p.ID, 10)):
		n.reject("links.self", "an address of the pull request that the body names")
	}
}

// checkRepositories returns an error where a body contradicts itself about repositories: a
// full name has a project and a slug, a pull request's destination is the repository of the
// event, and repositories with one UUID or number have one name. The source is another
// repository if it is a fork.
func (e *Event) checkRepositories() error {
	repositories := []*Repository{e.Repository}
	if pr := e.PullRequest; pr != nil {
		if pr.Destination.Repository.differs(e.Repository) {
			return errors.New("the pull request's destination is another repository than that of the event")
		}
		repositories = append(repositories, pr.Source.Repository, pr.Destination.Repository)
	}
	for i, r := range repositories {
		if r != nil && r.FullName != "" && !validFullName(r.FullName) {
			return errors.New("a repository's full name is not a workspace or project, a slash and a slug")
		}
		for _, other := range repositories[:i] {
			if r.contradicts(other) {
				return errors.New("two repositories have one name and two ids, or one id and two names")
			}
		}
	}
	return nil
}

// validFullName reports whether a full name has two segments, and neither is a dot segment.
func validFullName(name string) bool {
	owner, slug, ok := strings.Cut(name, "/")
	return ok && isSegment(owner) && isSegment(slug)
}

func isSegment(s string) bool {
	return s != "" && s != "." && s != ".." && !strings.ContainsAny(s, "/?#%\\")
}

// compare reports whether two repositories have the same id and the same name, as far as both
// have one.
func (r *Repository) compare(other *Repository) (id, name, idKnown, nameKnown bool) {
	if r == nil || other == nil {
		return false, false, false, false
	}
	switch {
	case r.UUID != "" && other.UUID != "":
		id, idKnown = r.UUID == other.UUID, true
	case r.ID != 0 && other.ID != 0:
		id, idKnown = r.ID == other.ID, true
	}
	nameKnown = r.FullName != "" && other.FullName != ""
	return id, nameKnown && strings.EqualFold(r.FullName, other.FullName), idKnown, nameKnown
}

func (r *Repository) differs(other *Repository) bool {
	id, name, idKnown, nameKnown := r.compare(other)
	return idKnown && !id || nameKnown && !name
}

func (r *Repository) contradicts(other *Repository) bool {
	id, name, idKnown, nameKnown := r.compare(other)
	return idKnown && nameKnown && id != name
}
