// Package misspelling makes misspellings of words, for tests that none is accepted
// silently. Only tests import it.
package misspelling

import (
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/internal/nearest"
)

// far is how many misspellings at edit distance 2 there are.
const far = 200

// letters are those that are inserted, and that replace others. Each letter of a word is
// also replaced by its capital.
const letters = "abcdefghijklmnopqrstuvwxyz_-0"

// Of returns all texts at edit distance 1 of a word, where a swap of two neighbors is
// one edit, followed by a seeded 200 at distance 2. It returns the same list for the same
// word, in which no text stands twice.
func Of(word string) []string {
	seen := map[string]bool{word: true}
	var list []string
	add := func(s string) {
		if s != "" && !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	edits(word, add)
	near := slices.Clone(list)
	random := rand.New(rand.NewPCG(2026, uint64(len(word))))
	for n := 0; n < far; {
		var all []string
		edits(near[random.IntN(len(near))], func(s string) { all = append(all, s) })
		before := len(list)
		if s := all[random.IntN(len(all))]; nearest.Distance(word, s) == 2 {
			add(s)
		}
		n += len(list) - before
	}
	return list
}

// Near returns the misspellings at edit distance 1 alone.
func Near(word string) []string {
	all := Of(word)
	return all[:len(all)-far]
}

// edits calls f with each deletion, replacement, insertion and swap of neighbors.
func edits(word string, f func(string)) {
	for i := range len(word) {
		f(word[:i] + word[i+1:])
		f(word[:i] + strings.ToUpper(word[i:i+1]) + word[i+1:])
		if i > 0 {
			f(word[:i-1] + word[i:i+1] + word[i-1:i] + word[i+1:])
		}
		for _, c := range letters {
			f(word[:i] + string(c) + word[i+1:])
		}
	}
	for i := range len(word) + 1 {
		for _, c := range letters {
			f(word[:i] + string(c) + word[i:])
		}
	}
}
