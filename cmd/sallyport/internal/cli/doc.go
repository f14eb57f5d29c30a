// Package cli holds what the commands share: finding the configuration, reading the files
// that flags name, errors with an exit status, and printing. It imports no command.
package cli
