// Package report makes the report, the tables and the pages of an evidence pack from its
// facts, decisions, events and reconciliations.
//
// To add a section, write a file with a type that implements section, its template and its
// tables, and list it in sections with the kinds of events that it uses. What a section
// needs beside events is a field of [pack.Facts], which a method of [pack.Log] fills: with
// the state as of the checkpoint, or with rows of which an event under the checkpoint has
// the digest. Anything later would make another pack of the same period tomorrow.
package report
