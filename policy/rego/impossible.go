package rego

import (
	"maps"
	"slices"
	"strings"
	"unicode"
)

// printable returns a name with characters that can be printed on one line.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, name)
}

// settleImpossible settles the effect of folders whose names no repository can have. Each
// is rejected alone: its rules decide nothing, and the rejection reports that. If it is the
// folder of a repository but for upper case, that repository is rejected, so that a
// misspelled name does not remove its denies. If all folders are such, the configuration is
// at fault, or the revision.
func (l *loader) settleImpossible(repositories map[string]*unit) {
	possible := false
	for _, u := range repositories {
		possible = possible || !u.impossible
	}
	for _, name := range slices.Sorted(maps.Keys(repositories)) {
		u := repositories[name]
		if !u.impossible {
			continue
		}
		if !possible {
			l.fail(u.misplaced[0])
			continue
		}
		workspace, repository, _ := strings.Cut(strings.ToLower(name), "/")
		lower := workspace + "/" + repository
		if _, valid := l.validFolder("", workspace, repository); valid && repositories[lower] == nil {
			delete(repositories, name)
			u.repository = lower
			repositories[lower] = u
		}
	}
}
