// Package e2e holds the end-to-end tests: the real program, as a process of its
// own, with real clients against a real PostgreSQL. Only Bitbucket is emulated.
package e2e
