// Package evidence makes evidence packs from the log for reviewers, and checks them.
//
// [Build] reads the log up to one checkpoint, verifies it, and writes a folder with the
// files that package pack describes. Everything but current/ depends on that checkpoint:
// events that were sealed later, and the time at which the pack is made, have no effect.
// The same parameters on the same log therefore give the same bytes, however much the
// log has grown.
//
// [Check] needs the folder only. It makes the tables and pages again with package report,
// from facts.json, population.jsonl.gz, events.jsonl and reconciliations.jsonl alone, and
// compares.
package evidence
