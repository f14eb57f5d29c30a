package cli

import (
	"fmt"
	"slices"
	"strings"
)

// OneOf refuses a word that is not in a vocabulary, and names the one that was
// probably meant, or all where there are few.
func OneOf(flag, given string, known []string) error {
	if slices.Contains(known, given) {
		return nil
	}
	if near := NearestWord(given, known); near != "" {
		return fmt.Errorf("%s %q is not known: did you mean %s?", flag, given, near)
	}
	if len(known) <= 20 {
		return fmt.Errorf("%s %q is not known: want one of %s", flag, given, JoinList(known))
	}
	return fmt.Errorf("%s %q is not known", flag, given)
}

// NearestWord is the word that is most like this one; empty where none is alike.
func NearestWord(given string, known []string) string {
	if len(given) > 60 {
		return ""
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToLower(s), "-", "_") }
	given = plain(given)
	best, least := "", len(given)/3+2
	for _, word := range known {
		far := editDistance(given, plain(word))
		if len(given) >= 4 && (strings.HasPrefix(plain(word), given) || strings.HasSuffix(plain(word), given)) {
			far = min(far, 1)
		}
		if far < least && far < len(word)/2+1 {
			best, least = word, far
		}
	}
	return best
}

// editDistance is how many bytes have to be put in, taken out or replaced to make
// b of a (Levenshtein).
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := corner
			if a[i] != b[j] {
				change++
			}
			corner = row[j+1]
			row[j+1] = min(row[j]+1, row[j+1]+1, change)
		}
	}
	return row[len(b)]
}
