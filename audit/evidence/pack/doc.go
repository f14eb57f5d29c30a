// Package pack is the format of an evidence pack: a folder about one period.
//
//	report.html            the report for people
//	facts.json             the state of the log: checkpoint, verification, writers, exceptions
//	population.jsonl.gz    every decision of the period with its end, as they were sealed
//	population.csv         the same for a spreadsheet
//	events.jsonl           every other event that the report uses, as it was sealed
//	reconciliations.jsonl  the findings about Bitbucket's deployments, each row under the digest in an event
//	consistency.jsonl      proofs that connect the checkpoint with earlier and later ones
//	tables/*.csv           each table of the report, whole
//	samples/ID.html .json  a sample detail for each decision of the sample
//	current/*              the state of the database when the pack was made, not of the period
//	manifest               the digests of all these, signed
//
// It also has the interface of the log that packs are made from, [Log].
package pack
