package manager

import (
	"slices"
	"strconv"
	"strings"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/policy/rego"
)

// Bounds of what one activation reports of rejected repositories; the event of the
// activation has their number.
const (
	maxRejectionEvents = 100
	maxRejectionNames  = 20
)

// rejectedAttributes name the rejected repositories in the event of an activation.
func rejectedAttributes(set *rego.Set) []audit.Attribute {
	rejected := set.Rejected()
	if len(rejected) == 0 {
		return nil
	}
	return []audit.Attribute{
		{Name: "rejected_repositories", Value: strconv.Itoa(len(rejected))},
		{Name: "rejected", Value: rejectedNames(rejected)},
	}
}

// rejectedNames names the first of the rejected repositories.
func rejectedNames(rejected []rego.Rejection) string {
	var names []string
	for _, r := range rejected[:min(len(rejected), maxRejectionNames)] {
		names = append(names, r.Repository)
	}
	return strings.Join(names, " ")
}

// sameRejections reports whether the same repositories are rejected for the same failures,
// with the same rules in force.
func sameRejections(a, b *rego.Set) bool {
	return slices.EqualFunc(a.Rejected(), b.Rejected(), func(a, b rego.Rejection) bool {
		return a.Repository == b.Repository && a.Kept.Digest == b.Kept.Digest && a.Failure.Error() == b.Failure.Error()
	})
}

// samePending reports whether the same repositories are not checked yet.
func samePending(a, b *rego.Set) bool { return len(a.Pending()) == len(b.Pending()) }

// pendingAttributes name the repositories whose policy is not checked yet in the event
// of an activation.
func pendingAttributes(set *rego.Set) []audit.Attribute {
	pending := set.Pending()
	if len(pending) == 0 {
		return nil
	}
	return []audit.Attribute{
		{Name: "pending_repositories", Value: strconv.Itoa(len(pending))},
		{Name: "pending", Value: PendingNames(pending)},
	}
}

// PendingNames lists the first of the pending repositories, with spaces between them.
func PendingNames(pending []rego.Pending) string {
	var names []string
	for _, r := range pending[:min(len(pending), maxRejectionNames)] {
		names = append(names, r.Repository)
	}
	return strings.Join(names, " ")
}
