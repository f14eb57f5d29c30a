package main

import (
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/sallyport/sallyport/step/session"
	"github.com/sallyport/sallyport/step/shell"
	"github.com/sallyport/sallyport/step/toolconfig"
)

// isStart reports whether a command line is of start, whose output the shell evaluates.
func isStart(args []string) bool {
	return len(args) > 0 && args[0] == "start" && !slices.ContainsFunc(args, func(arg string) bool { return arg == "-h" || arg == "--help" })
}

// printOpening prints the beginning of the script of start, before the program does
// anything that can fail: if it ends at any later time, for whatever cause, the proxies of
// the shell are a closed port.
func printOpening(args []string, out io.Writer) {
	if isStart(args) {
		_, _ = out.Write(shell.Opening(closedVariables()))
	}
}

func printFailure(out io.Writer, cause error) error {
	_, err := out.Write(shell.Failure("sallyport-step: start failed: " + singleLine(cause.Error())))
	return err
}

// singleLine makes a message safe for a terminal: line ends become "; ", and control
// characters "?".
func singleLine(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '?'
		}
		return r
	}, strings.ReplaceAll(s, "\n", "; "))
}

// closedVariables are the variables of all tools, with the closed port.
func closedVariables() []shell.Variable {
	return shellVariables(toolconfig.Variables(toolconfig.Tools, toolconfig.NewSettings(netip.AddrPort{})))
}

func shellVariables(variables []toolconfig.Variable) []shell.Variable {
	var list []shell.Variable
	for _, v := range variables {
		list = append(list, shell.Variable{Name: v.Name, Value: v.Value})
	}
	return list
}

// inScript reports whether the environment is of a shell that evaluated the script of
// start, also of one that failed: only there is something to restore.
func inScript(getenv func(string) string) bool {
	const closed = "HTTPS_PROXY"
	return getenv(session.Variable) != "" || slices.Contains(closedVariables(), shell.Variable{Name: closed, Value: getenv(closed)})
}

// restoreScript is what stop prints.
func restoreScript() []byte {
	return shell.Restore(closedVariables(), []string{session.Variable})
}
