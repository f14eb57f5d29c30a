// Command testprogress runs go test with its arguments, and prints each package when
// it is done, what runs every half minute, the output of what failed, and at the end the
// slowest tests. Its exit status is that of go test.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action, Package, Test, Output string
	Elapsed                       float64 // seconds
}

const (
	interval = 30 * time.Second // between two lines about the running packages
	maxSlow  = 20               // tests that are listed at the end
)

func main() {
	cmd := exec.Command(cmp.Or(os.Getenv("GO"), "go"), append([]string{"test", "-json"}, os.Args[1:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testprogress:", err)
		os.Exit(2)
	}
	lines := make(chan string)
	go func() {
		defer close(lines)
		in := bufio.NewReader(out)
		for {
			line, err := in.ReadString('\n')
			if line != "" {
				lines <- line
			}
			if err != nil {
				return
			}
		}
	}()
	report(lines)
	if err := cmd.Wait(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			os.Exit(exit.ExitCode())
		}
		fmt.Fprintln(os.Stderr, "testprogress:", err)
		os.Exit(2)
	}
}

// report prints the events until there are no more.
func report(lines <-chan string) {
	began, tick := time.Now(), time.NewTicker(interval)
	defer tick.Stop()
	p := progress{running: map[string]string{}, output: map[string][]string{}}
	for {
		select {
		case line, more := <-lines:
			if !more {
				fmt.Print(p.slowest(maxSlow))
				return
			}
			p.line(line)
		case <-tick.C:
			if len(p.running) > 0 {
				fmt.Printf("%8v  %d packages done; running %s\n", time.Since(began).Round(time.Second), p.done, p.now())
			}
		}
	}
}

type progress struct {
	done    int
	running map[string]string   // package: its latest test
	output  map[string][]string // package and test: what it printed
	tests   []event             // the ends of the tests that are not subtests
}

func (p *progress) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil {
		fmt.Print(line) // go itself
		return
	}
	of := e.Package + " " + e.Test
	switch e.Action {
	case "build-output":
		fmt.Print(e.Output)
	case "start":
		p.running[e.Package] = ""
	case "run":
		p.running[e.Package] = e.Test
	case "output":
		p.output[of] = append(p.output[of], e.Output)
	case "pass", "skip", "fail":
		if e.Action == "fail" {
			fmt.Print(strings.Join(p.output[of], ""))
		}
		delete(p.output, of)
		if e.Test != "" && !strings.Contains(e.Test, "/") {
			p.tests = append(p.tests, e)
		}
		if e.Test == "" {
			p.done++
			delete(p.running, e.Package)
			fmt.Printf("%-5s %s %.1fs\n", e.Action, e.Package, e.Elapsed)
		}
	}
}

// slowest lists the n slowest tests, each with the seconds in which it was not paused.
func (p *progress) slowest(n int) string {
	slices.SortStableFunc(p.tests, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	var text strings.Builder
	for _, e := range p.tests[:min(n, len(p.tests))] {
		fmt.Fprintf(&text, "%7.1fs %s %s\n", e.Elapsed, e.Package, e.Test)
	}
	return text.String()
}

// now is what runs.
func (p *progress) now() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(p.running)) {
		if test := p.running[name]; test != "" {
			name += " (" + test + ")"
		}
		list = append(list, name)
	}
	return strings.Join(list, ", ")
}
