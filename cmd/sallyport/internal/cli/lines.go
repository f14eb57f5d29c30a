package cli

import (
	"fmt"
	"strings"
)

// FieldLines writes one line for each value that there is.
func FieldLines(b *strings.Builder) func(name, value string) {
	return func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %-12s %s\n", name, value)
		}
	}
}
