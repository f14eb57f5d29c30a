// Package nearest suggests a known name for a misspelled one.
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

// Distance is the number of bytes to insert, remove or replace, and of neighbors to swap,
// that make b of a (optimal string alignment). It takes time in proportion to the product
// of both lengths.
func Distance(a, b string) int {
	var short [3][48]int // for most names, without an allocation
	n := len(b) + 1
	beforeLast, last, row := short[0][:], short[1][:], short[2][:]
	if n > len(row) {
		beforeLast, last, row = make([]int, n), make([]int, n), make([]int, n)
	}
	for j := range n {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replaced := last[j-1]
			if a[i-1] != b[j-1] {
				replaced++
			}
			row[j] = min(last[j]+1, row[j-1]+1, replaced)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], beforeLast[j-2]+1)
			}
		}
		beforeLast, last, row = last, row, beforeLast
	}
	return last[len(b)]
}
