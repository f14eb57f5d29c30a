// Package nearest suggests a known name for a misspelt one.
package nearest

import "strings"

// maxBytes bounds the names that are compared: no name of a configuration or a policy
// is longer.
const maxBytes = 200

// Of returns the candidate nearest to s, ignoring case, or "" if every candidate
// differs from s in more than half of its bytes. Of several it returns the first.
func Of(s string, candidates []string) string {
	if len(s) > maxBytes {
		return ""
	}
	s = strings.ToLower(s)
	best, bound := "", max(1, len(s)/2)+1
	for _, c := range candidates {
		if len(c) > maxBytes {
			continue
		}
		if d := Distance(s, strings.ToLower(c)); d < bound {
			best, bound = c, d
		}
	}
	return best
}

// Distance is the number of bytes to insert, remove or replace (Levenshtein). It
// takes time in proportion to the product of both lengths.
func Distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
