// Package regotext writes parts of Rego from names that come from outside.
package regotext

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf16"
)

// maxID bounds the part of a rule's id that comes from a name, in bytes.
const maxID = 90

// RuleID returns a name as a part of a rule's id: lower-case letters, digits, "-", "." and
// "_", at most 90 bytes. Each other character is replaced by "-".
func RuleID(name string) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return id[:min(len(id), maxID)]
}

// Quote returns a string as Rego writes it, which is as JSON does, in printable ASCII.
func Quote(s string) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(s) // a string is always encoded
	var ascii strings.Builder
	for _, unit := range utf16.Encode([]rune(strings.TrimSuffix(b.String(), "\n"))) {
		if unit < 0x7f {
			ascii.WriteByte(byte(unit))
		} else {
			fmt.Fprintf(&ascii, "\\u%04x", unit)
		}
	}
	return ascii.String()
}
