package rego

import (
	"slices"
	"strings"

	"github.com/sallyport/sallyport/policy"
)

// maxApplied bounds how many exceptions the record of one decision names.
const maxApplied = 16

// mergeExceptions sorts exceptions by their paths, without repetition.
func mergeExceptions(a, b []policy.AppliedException) []policy.AppliedException {
	place := func(e *policy.AppliedException) string { return e.Path + e.Owner + e.Ticket }
	list := slices.Concat(a, b)
	slices.SortFunc(list, func(a, b policy.AppliedException) int { return strings.Compare(place(&a), place(&b)) })
	list = slices.CompactFunc(list, func(a, b policy.AppliedException) bool {
		return a.Path != "" && place(&a) == place(&b)
	})
	return list[:min(len(list), maxApplied)]
}
