package bitbuckettest

import "strings"

// fullName is workspace/slug. The caller holds mu.
func (r *Repository) fullName() string { return r.workspace.slug + "/" + slugify(r.name) }

// slugify makes a URL-friendly name: lower case, and a hyphen for each run of
// characters that a slug cannot have.
func slugify(name string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(name) {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '.', c == '_':
			b.WriteRune(c)
		case !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}
