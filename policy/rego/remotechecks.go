package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/sallyport/sallyport/internal/worker"
)

// readDocumentsApart reads the documents in a worker. What is wrong with them
// becomes errors of the loader.
func (l *loader) readDocumentsApart(ctx context.Context) error {
	l.data, l.dataText = ast.NewObject(), []byte("{}")
	if len(l.documents) == 0 {
		return nil
	}
	var r readData
	u := &unit{repository: ""}
	for _, f := range l.documents {
		u.sources = append(u.sources, source{path: f.Path}) // for marks
	}
	began := time.Now()
	err := l.ask(ctx, askDocuments, l.environment.full, nil, unitRequest{}, worker.Call{Limit: limits.documents, Quiet: limits.quiet}, &r)
	if isDeath(err) {
		d, _ := errors.AsType[*worker.Death](err)
		file, _ := u.marked(d.Mark)
		l.fail(Error{File: file, Line: 1, Column: 1, Message: "reading the document " + d.Error(), Retry: d.Retryable()})
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the documents: %w", err)
	}
	l.errors, l.warnings, l.ended = append(l.errors, r.Errors...), append(l.warnings, r.Warnings...), r.Ended
	if l.data, err = dataOf(r.Data); err != nil {
		return fmt.Errorf("read the documents: %w", err)
	}
	l.dataText, l.documentsTime = r.Data, time.Since(began)
	return nil
}

// inspectApart checks a unit in a worker. What is wrong becomes errors of the loader.
func (l *loader) inspectApart(ctx context.Context, u *unit) error {
	var r inspected
	err := l.ask(ctx, askInspect, l.environment.full, u, unitRequest{}, worker.Call{Limit: limits.inspect}, &r)
	if isDeath(err) && l.attempt > 0 {
		return ErrAttempt
	}
	if isDeath(err) {
		l.fail(asError(l.placeOfDeath(ctx, u, l.environment.full, warmUpQuestion().json, warmUpDeadline, "the check", err)))
		return nil
	}
	if err != nil {
		return fmt.Errorf("checking %s: %w", unitName(u), err)
	}
	l.errors, l.warnings = append(l.errors, r.Errors...), append(l.warnings, r.Warnings...)
	u.reads, u.all = r.Reads, r.All
	return nil
}

// lintApart says what in a unit deserves a look.
func (l *loader) lintApart(ctx context.Context, u *unit) error {
	var r inspected
	err := l.ask(ctx, askLint, l.environment.full, u, unitRequest{}, worker.Call{Limit: limits.inspect}, &r)
	if isDeath(err) {
		l.fail(asError(faultOf(u, "the check", err)))
		return nil
	}
	if err != nil {
		return fmt.Errorf("checking %s: %w", unitName(u), err)
	}
	l.errors, l.warnings = append(l.errors, r.Errors...), append(l.warnings, r.Warnings...)
	return nil
}

// testApart runs the tests of a unit in a worker. A test that ends the worker is one
// that failed.
func (l *loader) testApart(ctx context.Context, u *unit, report *TestReport) (covered, lines int, err error) {
	var r tested
	err = l.ask(ctx, askTest, l.environment.full, u, unitRequest{Deadline: l.testsTime}, worker.Call{Limit: l.testsTime + limits.quiet, Quiet: limits.quiet}, &r)
	if isDeath(err) && l.attempt > 0 {
		return 0, 0, ErrAttempt
	}
	if d, ok := errors.AsType[*worker.Death](err); ok {
		file, line := u.marked(d.Mark)
		report.Results = append(report.Results, TestResult{
			File: file, Line: line, Package: packageText(u.testPkg()), Name: "at this place", Message: "it " + d.Error(), Retry: d.Retryable(),
		})
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	report.Results = append(report.Results, r.Report.Results...)
	report.Files = append(report.Files, r.Report.Files...)
	return r.Covered, r.Lines, nil
}
