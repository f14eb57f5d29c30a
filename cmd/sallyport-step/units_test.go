package main

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestLineWriter: a reader that does not read delays no caller, and its next line counts those that it missed.
func TestLineWriter(t *testing.T) {
	t.Parallel()
	read, write := io.Pipe()
	l := newLineWriter(write)
	for range maxLines + 10 { // none is read
		l.print("line\n")
	}
	got := make(chan string)
	go func() {
		var text bytes.Buffer
		for !strings.Contains(text.String(), "last\n") {
			part := make([]byte, 4096)
			n, err := read.Read(part)
			if err != nil {
				break
			}
			text.Write(part[:n])
			l.print("last\n") // accepted as soon as the queue has room
		}
		got <- text.String()
	}()
	text := <-got
	if !strings.Contains(text, "lines are missing here") || strings.Count(text, "line\n") < maxLines {
		t.Errorf("%d lines: %.200s", strings.Count(text, "line\n"), text)
	}
	_ = read.Close()
	l.close()
	l.print("after the end")
}

// TestContainerAddress: the address for containers is the given one, Bitbucket's, or that
// of docker0, and never loopback or every address.
func TestContainerAddress(t *testing.T) {
	docker := bridge{netip.MustParsePrefix("172.17.0.1/16"), true}
	lan := bridge{netip.MustParsePrefix("10.1.2.3/24"), false}
	for _, c := range []struct {
		given, bitbucket string
		interfaces       []bridge
		want             string
	}{
		{dockerAuto, "", []bridge{docker, lan}, "172.17.0.1"},
		{dockerAuto, "10.36.1.2", []bridge{docker, lan}, "10.36.1.2"},
		{dockerAuto, "host.docker.internal", []bridge{lan, docker}, "172.17.0.1"},
		{"10.1.2.3", "10.36.1.2", []bridge{docker}, "10.1.2.3"},
		{dockerAuto, "", []bridge{lan}, "no docker0"},
		{"0.0.0.0", "", []bridge{docker}, "not an IPv4 address that containers reach"},
		{"127.0.0.1", "", []bridge{docker}, "not an IPv4 address that containers reach"},
		{"::1", "", []bridge{docker}, "not an IPv4 address that containers reach"},
		{"docker0", "", []bridge{docker}, "not an IPv4 address that containers reach"},
	} {
		got, err := chooseAddress(c.given, c.bitbucket, c.interfaces)
		if err == nil && got.String() != c.want || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
	if list, err := bridges(); err != nil {
		t.Errorf("%v, %v", list, err)
	}
	address, networks, err := containerAddress(options{Docker: "192.0.2.1", DockerNetworks: []string{"192.0.2.9/24"}})
	if err != nil || address.String() != "192.0.2.1" || len(networks) != 1 || networks[0].String() != "192.0.2.0/24" {
		t.Errorf("%s, %v, %v", address, networks, err)
	}
}

// TestCommandsAreDocumented: docs/step.md has each command and each option of start, and
// each command's help has its exit statuses.
func TestCommandsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "step.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, c := range newRoot().Commands() {
		if exits[c.Name()] == "" || !strings.Contains(c.Long, "Exit status:") {
			t.Errorf("%s has no exit statuses", c.Name())
		}
		if !c.Hidden && c.Name() != "version" && !strings.Contains(page, "| `"+c.Name()) {
			t.Errorf("docs/step.md does not name %s", c.Name())
		}
		if c.Name() == "start" {
			checkFlags(t, c, page)
		}
	}
}

func checkFlags(t *testing.T, c *cobra.Command, page string) {
	t.Helper()
	c.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" && !strings.Contains(page, "`--"+f.Name) {
			t.Errorf("docs/step.md does not name --%s", f.Name)
		}
	})
}

// TestIsTerminal: a file, a buffer and /dev/null are not terminals; a pseudoterminal is.
func TestIsTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if isTerminal(f) || isTerminal(null) || isTerminal(&bytes.Buffer{}) {
		t.Error("a file is a terminal")
	}
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudoterminal: %v", err)
	}
	defer pty.Close()
	if !isTerminal(pty) {
		t.Error("a pseudoterminal is not a terminal")
	}
}
