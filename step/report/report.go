// Package report shows what a build step requested through Sallyport, what was denied and
// why, and which rules to ask for: as a table for the build log, as JSON, and as a report of
// Bitbucket's Code Insights.
package report

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/sallyport/sallyport/internal/stepapi"
	"github.com/sallyport/sallyport/step/forwarder"
)

// Config names the sources of a report. At least one of Server and Local is required.
type Config struct {
	// Server returns what the server knows of the step; nil: the server is not asked.
	Server func(context.Context) (*stepapi.Step, error)
	// Local is what the forwarder has served; nil: no forwarder is running.
	Local *forwarder.Report

	Width    int       // of the table, in columns; 0: DefaultWidth
	JSON     bool      // prints one JSON object instead of the table
	Insights *Insights // publishes the report with the commit; nil: it is only printed
}

// Summarize returns the report. A server that does not answer is a note in the report; the
// error is that of the server if there is no other source.
func Summarize(ctx context.Context, c Config) (*Summary, error) {
	var server *stepapi.Step
	var problem error
	if c.Server != nil {
		server, problem = c.Server(ctx)
	}
	if server == nil && c.Local == nil {
		if problem == nil {
			problem = errors.New("there is no proxy to ask, and no forwarder is running: run sallyport-step start first, or give --proxy")
		}
		return nil, problem
	}
	s := summarize(server, c.Local)
	if problem != nil {
		s.note("the server's error: " + clean(problem.Error()))
	}
	return s, nil
}

// Run prints the report to out, and publishes it if Config.Insights is set. A denied request
// does not make it an error.
func Run(ctx context.Context, c Config, out io.Writer) error {
	s, err := Summarize(ctx, c)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if c.JSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(s)
	} else {
		err = printTable(out, s, c.Width)
	}
	if err != nil {
		return fmt.Errorf("report: print: %w", err)
	}
	if c.Insights == nil {
		return nil
	}
	if err := c.Insights.Publish(ctx, s); err != nil {
		return fmt.Errorf("report: publish in Code Insights: %w", err)
	}
	return nil
}
