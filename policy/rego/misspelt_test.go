package rego

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// misspellings are all texts at edit distance 1 of a word, over the letters that a
// typist hits, and a seeded 200 at distance 2.
func misspellings(word string) []string {
	const letters = "abcdefghijklmnopqrstuvwxyzADRW_0"
	seen := map[string]bool{word: true}
	var list []string
	add := func(s string) {
		if s != "" && !seen[s] {
			seen[s] = true
			list = append(list, s)
		}
	}
	edits := func(w string, f func(string)) {
		for i := range len(w) {
			f(w[:i] + w[i+1:])
			for _, c := range letters {
				f(w[:i] + string(c) + w[i+1:])
			}
		}
		for i := range len(w) + 1 {
			for _, c := range letters {
				f(w[:i] + string(c) + w[i:])
			}
		}
	}
	edits(word, add)
	near := slices.Clone(list)
	random := rand.New(rand.NewPCG(2026, uint64(len(word))))
	for n := 0; n < 200; {
		from := near[random.IntN(len(near))]
		var all []string
		edits(from, func(s string) { all = append(all, s) })
		before := len(list)
		add(all[random.IntN(len(all))])
		n += len(list) - before
	}
	return list
}

// misspeltPlace is a word of a policy file in its place: %s stands for the word.
type misspeltPlace struct {
	name, files string
	words       []string
	valid       []string // other words that may stand there
}

var misspeltPlaces = []misspeltPlace{
	{name: "sets of the organization", files: org(`%s contains {"rule": "x"} if input.target.port == 25`), words: []string{"allow", "deny", "report", "delegate"}},
	{name: "sets of a repository", files: repo(`%s contains {"rule": "x"} if input.target.port == 25`), words: []string{"allow", "deny"}},
}

// TestMisspellings: no misspelling of a word of a policy file is accepted without a
// word, unless it is another word that may stand there.
func TestMisspellings(t *testing.T) {
	for _, place := range misspeltPlaces {
		t.Run(place.name, func(t *testing.T) {
			t.Parallel()
			for _, word := range place.words {
				clean := strings.Replace(place.files, "%s", word, 1)
				if problems, warnings, err := Check(t.Context(), snapshot(t, clean), Options{Names: true}); err != nil || len(problems)+len(warnings) > 0 {
					t.Fatalf("%s: %v\n%v\n%v", word, err, problems, warnings)
				}
				for _, wrong := range misspellings(word) {
					if slices.Contains(place.valid, wrong) || slices.Contains(place.words, wrong) {
						continue
					}
					problems, warnings, err := Check(t.Context(), snapshot(t, strings.Replace(place.files, "%s", wrong, 1)), Options{Names: true})
					if err != nil {
						t.Fatal(err)
					}
					if len(problems)+len(warnings) == 0 {
						t.Errorf("%s instead of %s is accepted", wrong, word)
					}
				}
			}
		})
	}
}
