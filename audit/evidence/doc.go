// Package evidence makes evidence packs from the log for reviewers, and checks
// them.
//
// A pack is a folder about one period:
//
//	report.html            what a reader wants to know, for people
//	facts.json             the state of the log: checkpoint, verification, writers, exceptions
//	population.jsonl.gz    every decision of the period with its end, as they were sealed
//	population.csv         the same for a spreadsheet
//	events.jsonl           every other event that the report speaks of, as it was sealed
//	reconciliations.jsonl  what was found of Bitbucket's deployments, each row under the digest in an event
//	tables/*.csv           each table of the report, whole
//	samples/ID.html .json  a sample detail for each decision of the sample
//	current/*              what is true of the database now, and not of the period
//	manifest               the digests of all these, signed
//
// Everything but current/ depends on one checkpoint: events that were sealed later,
// and the time at which the pack is made, have no effect. The same parameters on the
// same log therefore give the same bytes, however much the log has grown.
//
// The report and the tables are made from facts.json, population.jsonl.gz, events.jsonl
// and reconciliations.jsonl alone, so that [Check] makes them again and compares.
//
// To add a section to the report, write a file with a type that implements
// section, its template and its tables, and list it in sections with the kinds of
// events that it speaks of. What it needs beside events is a field of [Facts], which
// a method of [Log] fills: with what stood there when the checkpoint was signed, or
// what an event under it has the digest of, and
// nothing later, or the pack is another one tomorrow.
package evidence
