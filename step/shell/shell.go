// Package shell writes the POSIX shell scripts that start and stop print, for eval.
//
// A step evaluates whatever start printed before it ended: nothing that start prints may
// let tools connect directly, wherever it was cut. The first line sets every proxy to a
// closed port. All that follows is one compound command, which is a syntax error unless it
// is complete.
package shell

import (
	"bytes"
	"strings"
)

// Variable is an environment variable to export.
type Variable struct{ Name, Value string }

// Quote returns a text as one word of POSIX shell, in which no character has a meaning.
// The shell cannot represent a zero byte: Quote removes it.
func Quote(s string) string {
	return "'" + strings.ReplaceAll(strings.ReplaceAll(s, "\x00", ""), "'", `'\''`) + "'"
}

// MaxOpeningBytes bounds [Opening]: a pipe takes so many bytes in one write or not at all
// (PIPE_BUF, pipe(7)).
const MaxOpeningBytes = 4096

// Opening returns the beginning of the script of start: it saves the variables of the
// shell, once, and sets them to the given values, which name a closed port. It has to be
// followed by [Success] or [Failure].
func Opening(closed []Variable) []byte {
	var b bytes.Buffer
	b.WriteString("{ case ${SALLYPORT_STEP_SAVED-} in '') SALLYPORT_STEP_SAVED=1; for sallyport_n in " + names(closed) +
		`; do eval "sallyport_was_$sallyport_n=\${$sallyport_n+x} sallyport_old_$sallyport_n=\${$sallyport_n-}"; done;; esac; `)
	writeExports(&b, closed)
	b.WriteString("; }\n{\n")
	return b.Bytes()
}

// Success returns the end of the script of a start that succeeded: it exports the
// variables, restores those of closed that are not among them, and unsets others.
func Success(variables, closed []Variable, unset []string) []byte {
	var b bytes.Buffer
	var unused []Variable
	for _, v := range closed {
		if !contains(variables, v.Name) {
			unused = append(unused, v)
		}
	}
	if len(unused) > 0 {
		b.WriteString("for sallyport_n in " + names(unused) + `; do eval "` + restoreOne + `"; done` + "\n")
	}
	writeExports(&b, variables)
	b.WriteString("\n")
	if len(unset) > 0 {
		b.WriteString("unset " + strings.Join(unset, " ") + "\n")
	}
	b.WriteString(":\n}\n")
	return b.Bytes()
}

// Failure returns the end of the script of a start that failed: it reports the cause on
// standard error, and ends with false. The proxies remain closed.
func Failure(cause string) []byte {
	return []byte("printf '%s\\n' " + Quote(cause) + " >&2\nfalse\n}\n")
}

const restoreOne = `if [ \"\${sallyport_was_$sallyport_n-}\" ]; then $sallyport_n=\$sallyport_old_$sallyport_n; else unset $sallyport_n; fi`

// Restore returns the script of stop. In a shell in which the script of start was
// evaluated, it restores the variables as they were; in another one it changes nothing.
func Restore(variables []Variable, unset []string) []byte {
	var b bytes.Buffer
	b.WriteString("case ${SALLYPORT_STEP_SAVED-} in '') ;; *) for sallyport_n in " + names(variables) +
		`; do eval "` + restoreOne + `; unset sallyport_was_$sallyport_n sallyport_old_$sallyport_n"; done; unset SALLYPORT_STEP_SAVED sallyport_n ` +
		strings.Join(unset, " ") + ";; esac\n")
	return b.Bytes()
}

func names(variables []Variable) string {
	var list []string
	for _, v := range variables {
		list = append(list, v.Name)
	}
	return strings.Join(list, " ")
}

func writeExports(b *bytes.Buffer, variables []Variable) {
	b.WriteString("export")
	for _, v := range variables {
		b.WriteString(" " + v.Name + "=" + Quote(v.Value))
	}
}

func contains(variables []Variable, name string) bool {
	for _, v := range variables {
		if v.Name == name {
			return true
		}
	}
	return false
}
