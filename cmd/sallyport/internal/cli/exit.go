package cli

import "fmt"

// InvalidError is an error in what the operator wrote: the command line or a file.
type InvalidError struct{ err error }

// Invalid marks an error as one in what the operator wrote.
func Invalid(err error) error { return InvalidError{err} }

func (e InvalidError) Error() string { return e.err.Error() }

func (e InvalidError) Unwrap() error { return e.err }

// FindingError ends a command with status 1 whose report is printed already.
type FindingError struct{}

func (FindingError) Error() string { return "the report has the finding" }

// ProgramError is the end of a program that the operator asked for, whose status is ours.
type ProgramError struct{ Status int }

func (e ProgramError) Error() string {
	return fmt.Sprintf("the program ended with status %d", e.Status)
}
