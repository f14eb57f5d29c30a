package webhookcmd

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a pseudoterminal (pty(7)).
func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = terminal.Close() })
	return master, terminal
}

// TestBodyDoesNotControlTheTerminal: a body is escaped on a terminal, unless --raw is given,
// and is as received in a file.
func TestBodyDoesNotControlTheTerminal(t *testing.T) {
	const body = "{\"title\":\"\x1b]0;owned\a\x1b[2J\u202e\"}\n"
	const escaped = `{"title":"\x1b]0;owned\a\x1b[2J\u202e"}`
	for _, raw := range []bool{false, true} {
		master, terminal := openTerminal(t)
		if err := writeBody(terminal, []byte(body), raw); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(master).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimRight(line, "\r\n"); raw != (got == strings.TrimRight(body, "\n")) || !raw && got != escaped {
			t.Errorf("raw %t: the terminal got %q", raw, got)
		}
	}
	file, err := os.Create(t.TempDir() + "/body")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := writeBody(file, []byte(body), false); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file.Name()); err != nil || string(got) != body {
		t.Errorf("the file has %q, %v", got, err)
	}
}
