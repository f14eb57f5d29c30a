package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sallyport/sallyport/internal/nearest"
)

// OneOf refuses a word that is not in a vocabulary, and names the one that was
// probably meant, or all where there are few.
func OneOf(flag, given string, known []string) error {
	if slices.Contains(known, given) {
		return nil
	}
	if near := Nearest(given, known); near != "" {
		return fmt.Errorf("%s %q is not known: did you mean %s?", flag, given, near)
	}
	if len(known) <= 20 {
		named := slices.DeleteFunc(slices.Clone(known), func(s string) bool { return s == "" })
		return fmt.Errorf("%s %q is not known: want one of %s", flag, given, JoinList(named))
	}
	return fmt.Errorf("%s %q is not known", flag, given)
}

// Nearest returns the known word that is most similar to a given one, or "" if none is similar.
func Nearest(given string, known []string) string {
	if len(given) > 60 {
		return ""
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	given = plain(given)
	best, least := "", len(given)/3+2
	for _, value := range known {
		far := nearest.Distance(given, plain(value))
		if len(given) >= 4 && (strings.HasPrefix(plain(value), given) || strings.HasSuffix(plain(value), given)) {
			far = min(far, 1)
		}
		if far < least && far < len(value)/2+1 {
			best, least = value, far
		}
	}
	return best
}

// nearestCommand is the subcommand of c that is most like a word, by its own name or,
// below c, as a path such as "audit verify"; empty if none is alike.
func nearestCommand(c *cobra.Command, value string) string {
	var own, paths, below []string
	for _, sub := range c.Commands() {
		if !sub.IsAvailableCommand() {
			continue
		}
		own = append(own, sub.Name())
		for _, leaf := range sub.Commands() {
			paths, below = append(paths, sub.Name()+" "+leaf.Name()), append(below, leaf.Name())
		}
	}
	if near := Nearest(value, own); near != "" {
		return near
	}
	if near := Nearest(value, below); near != "" {
		return paths[slices.Index(below, near)]
	}
	return ""
}
