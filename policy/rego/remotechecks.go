package rego

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"

	"github.com/sallyport/sallyport/internal/worker"
)

// readDocumentsInWorker reads the documents in a worker. Their faults become errors of the
// loader.
func (l *loader) readDocumentsInWorker(ctx context.Context) error {
	l.data, l.dataText = ast.NewObject(), []byte("{}")
	if len(l.documents) == 0 {
		return nil
	}
	var r documentsReply
	u := &unit{repository: ""}
	for _, f := range l.documents {
		u.sources = append(u.sources, source{path: f.Path}) // for marks
	}
	began := time.Now()
	err := l.call(ctx, requestDocuments, l.environment.full, nil, unitRequest{}, worker.Call{Limit: limits.documents, ProgressTimeout: limits.quiet}, &r)
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

// inspectInWorker checks a unit in a worker. Its faults become errors of the loader.
func (l *loader) inspectInWorker(ctx context.Context, u *unit) error {
	var r inspectReply
	err := l.call(ctx, requestInspect, l.environment.full, u, unitRequest{}, worker.Call{Limit: limits.inspect}, &r)
	if isDeath(err) && l.attempt > 0 {
		return ErrAttempt
	}
	if isDeath(err) {
		l.fail(asError(l.placeOfDeath(ctx, u, l.environment.full, warmUpInput(egress).json, warmUpDeadline, "the check", err)))
		return nil
	}
	if err != nil {
		return fmt.Errorf("checking %s: %w", unitName(u), err)
	}
	l.errors, l.warnings = append(l.errors, r.Errors...), append(l.warnings, r.Warnings...)
	u.reads, u.all = r.Reads, r.All
	return nil
}

// lintInWorker collects the warnings about a unit in a worker.
func (l *loader) lintInWorker(ctx context.Context, u *unit) error {
	var r inspectReply
	err := l.call(ctx, requestLint, l.environment.full, u, unitRequest{}, worker.Call{Limit: limits.inspect}, &r)
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

// testInWorker runs the tests of a unit in a worker. A test that ends the worker is a
// failed test.
func (l *loader) testInWorker(ctx context.Context, u *unit, report *TestReport) (covered, lines int, err error) {
	var r testReply
	err = l.call(ctx, requestTest, l.environment.full, u, unitRequest{Deadline: l.testsTime}, worker.Call{Limit: l.testsTime + limits.quiet, ProgressTimeout: limits.quiet}, &r)
	if isDeath(err) && l.attempt > 0 {
		return 0, 0, ErrAttempt
	}
	if d, ok := errors.AsType[*worker.Death](err); ok {
		file, line := u.marked(d.Mark)
		report.Results = append(report.Results, TestResult{
			File: file, Line: line, Package: packageText(u.part(domainOf(file)).testPkg()), Name: "at this place", Message: "it " + d.Error(), Retry: d.Retryable(),
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
