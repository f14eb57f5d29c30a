package destination

import "strings"

// Pattern stands for hosts. It is a host in its canonical form, which stands for
// itself, or "*." and a name, which stands for every name with one or more labels
// before it and never for the name itself. The zero Pattern stands for none.
type Pattern struct {
	host string // without the "*."
	wild bool
}

// ParsePattern reads a pattern as configuration has it. What is written in
// another way than the canonical one is refused, so that a pattern never fails to
// match for its spelling. Errors are of type *[Error].
func ParsePattern(s string) (Pattern, error) {
	name, wild := strings.CutPrefix(s, "*.")
	host, addr, err := ParseHost(name)
	switch {
	case s == "*":
		return Pattern{}, problem(ProblemHost, "%s alone stands for nothing: leave the list out to mean every host", quote(s))
	case err != nil:
		return Pattern{}, err
	case host != name:
		return Pattern{}, problem(ProblemHost, "%s is not in its canonical form: write %s", quote(name), quote(host))
	case wild && addr.IsValid():
		return Pattern{}, problem(ProblemHost, "%s: an IP address has no names before it", quote(s))
	}
	return Pattern{host: host, wild: wild}, nil
}

// Matches reports whether the pattern stands for a canonical host.
func (p Pattern) Matches(host string) bool {
	if p.wild {
		before, found := strings.CutSuffix(host, p.host)
		return found && len(before) > 1 && before[len(before)-1] == '.'
	}
	return p.host != "" && host == p.host
}

// String returns what [ParsePattern] was given.
func (p Pattern) String() string {
	if p.wild {
		return "*." + p.host
	}
	return p.host
}
