// Package e2e holds the end-to-end tests: the real program, as a process of its
// own, with real clients against a real PostgreSQL. Only Bitbucket is emulated.
// README.md describes the tables and the mutations.
package e2e
