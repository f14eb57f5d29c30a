package verifycmd

import (
	"maps"
	"slices"

	"github.com/sallyport/sallyport/audit"
)

func sortedDamage(counts map[audit.Damage]int64) []audit.Damage {
	return slices.Sorted(maps.Keys(counts))
}
