// Package session lets a client pause between two transfers: the test that runs the
// client restarts the proxy, or waits until the token has expired.
package session

import (
	"bufio"
	"flag"
	"fmt"
	"os"
)

var twice = flag.Bool("session", false, "make two transfers, with a pause between them")

// Run makes the transfer, or two of them, and ends the process.
func Run(transfer func() (string, error)) {
	once := func() {
		text, err := transfer()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(text)
	}
	if *twice {
		once()
		if err := pause(); err != nil {
			fmt.Fprintln(os.Stderr, "pause:", err)
			os.Exit(2)
		}
	}
	once()
}

func pause() error {
	if err := os.WriteFile(os.Getenv("EVENTS"), []byte("first\n"), 0o600); err != nil {
		return err
	}
	in, err := os.Open(os.Getenv("CONTINUE"))
	if err != nil {
		return err
	}
	defer in.Close()
	_, err = bufio.NewReader(in).ReadString('\n')
	return err
}
