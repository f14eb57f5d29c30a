package operator

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/sallyport/sallyport/audit"
	"github.com/sallyport/sallyport/internal/admin"
)

const maxReason = 1000 // bytes

// attribute adds an attribute to an event.
func attribute(name, value string) func(*audit.Event) {
	return func(e *audit.Event) { e.Attributes = append(e.Attributes, audit.Attribute{Name: name, Value: value}) }
}

func checkReason(reason string) error {
	if len(reason) > maxReason || !utf8.ValidString(reason) || strings.ContainsRune(reason, 0) {
		return &admin.Mistake{Message: fmt.Sprintf("reason: at most %d bytes of text", maxReason)}
	}
	return nil
}
